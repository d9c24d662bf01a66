"""What ``--init-type`` and ``--trace-interval`` do in a training: hung on to fairseq's trainer from outside.

A model does not know who trains it: ``model`` builds, and what is built from a checkpoint, for generation, folding
or analysis, is the same whatever training wrote it. fairseq-train and fairseq-hydra-train give each model to one
``Trainer``, and nobody else does; that is where a training begins.
"""

import functools
import logging
from typing import Any

from fairseq.trainer import Trainer

from . import options, trace
from .compat.marks import is_mended, mark
from .init_types import measures
from .model import AdminTransformerModel
from .profile import first_step
from .profile.fill import fill_master_weights

logger = logging.getLogger(__name__)


def install() -> None:
    """Have every ``Trainer`` begin a training the way the model's ``--init-type`` says. Twice changes nothing."""
    construct, build_optimizer = Trainer.__init__, Trainer._build_optimizer
    if is_mended(construct, by="training"):
        return

    @functools.wraps(construct)
    def begin(self, cfg, task, model, *args, **kwargs):
        if isinstance(model, AdminTransformerModel):
            prepare(model, task)
        construct(self, cfg, task, model, *args, **kwargs)

    @functools.wraps(build_optimizer)
    def build(self):
        build_optimizer(self)
        if isinstance(self._model, AdminTransformerModel):
            start_master_weights(self._model, self._optimizer)

    Trainer.__init__, Trainer._build_optimizer = mark(begin, by="training"), mark(build)


def prepare(model: AdminTransformerModel, task: Any) -> None:
    """Hang on to ``task`` what has to happen while it trains ``model``."""
    args = model.flags
    restore_file = getattr(args, "restore_file", None) or "checkpoint_last.pt"
    if restore_file != "checkpoint_last.pt" and not options.checkpoint_to_restore(args):
        logger.warning(
            "--restore-file %s: no such file; the training starts at the beginning", restore_file
        )
    if args.trace_interval:
        trace.trace_training(model, args, task)
    if measures(args):
        first_step.profile_at_first_step(model, args, task)


def start_master_weights(model: AdminTransformerModel, optimizer: Any) -> None:
    """Start float32 master copies of omega (``--fp16``, ``--bf16``) from the profile's numbers, not from rounded ones."""
    omegas = getattr(model.flags, "admin_omega", None)
    if not measures(model.flags) and omegas and not model.restored:
        fill_master_weights(optimizer, model, omegas)
