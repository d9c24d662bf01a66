"""What ``--init-type`` and ``--trace-interval`` do in a training: hung on from outside.

A model does not know who trains it: ``model`` builds, and what is built from a checkpoint, for
generation, folding or analysis, is the same whatever training wrote it. fairseq-train and
fairseq-hydra-train give each model to one ``Trainer``, and nobody else does; that is where a
training begins (:func:`prepare`).

A training loop of one's own calls :func:`set_up` for omegas from a profile, or ``profile_omega``
and ``apply_profile`` on its first batch. One that does neither is stopped at its first step: with
omega = 1 it would train plain Post-LN.
"""

from __future__ import annotations

import functools
import logging
from typing import Any

import torch
from fairseq.trainer import Trainer
from torch import nn

from . import cpu_amp, options, rules, trace
from .compat.marks import is_mended, mark
from .errors import AdminError
from .init_types import measures, method_of
from .model import AdminTransformerModel
from .profile import first_step
from .profile.fill import freeze_all, freeze_first
from .profile.from_file import fill_from_file
from .profile.master_weights import fill_master_weights
from .sites import named_omegas

logger = logging.getLogger(__name__)


def install() -> None:
    """Have every ``Trainer`` begin a training as ``--init-type`` says, and every model be watched.

    Twice changes nothing.
    """
    # by this module's full name: of two copies of the package each begins trainings of its models
    if is_mended(Trainer.__init__, by=__name__):
        return
    construct, build_optimizer = Trainer.__init__, Trainer._build_optimizer

    @functools.wraps(construct)
    def begin(
        self: Trainer, cfg: Any, task: Any, model: nn.Module, *args: Any, **named: Any
    ) -> None:
        cpu_amp.check(cfg)
        # a wrapped model has flat shards, and rules refuse those where sites are needed
        if isinstance(model, AdminTransformerModel):
            prepare(model, task, stored_args=getattr(cfg, "model", cfg))
        construct(self, cfg, task, model, *args, **named)

    @functools.wraps(build_optimizer)
    def build_with_omegas(self: Trainer) -> None:
        build_optimizer(self)
        # fairseq builds the optimizer again when it resumes: then the checkpoint's omegas count
        if isinstance(self._model, AdminTransformerModel):
            _start_master_weights(self._model, self._optimizer)

    Trainer.__init__ = mark(begin, by=__name__)
    Trainer._build_optimizer = mark(build_with_omegas, by=__name__)
    AdminTransformerModel.when_built.append(_watch)


def prepare(model: AdminTransformerModel, task: Any, stored_args: Any = None) -> None:
    """Begin a training as fairseq-train does it; before its optimizer, or copies of the model.

    Args:
        model: just built, and not wrapped.
        task: fairseq's; what happens while it trains the model is hung on to it.
        stored_args: see :func:`set_up`.

    Raises:
        AdminError: if flags contradict each other, or the profile is missing or does not fit.
    """
    args = model.flags
    rules.check_training(args)
    restore_file = getattr(args, "restore_file", None) or options.LAST_CHECKPOINT
    if restore_file != options.LAST_CHECKPOINT and not options.checkpoint_to_restore(args):
        logger.warning(
            "--restore-file %s: no such file; the training starts at the beginning", restore_file
        )
    set_up(model, stored_args)
    # before profiling: that takes itself away again, and puts back what it found
    if args.trace_interval:
        trace.trace_training(model, args, task)
    if measures(args):
        first_step.profile_at_first_step(model, args, task)


def set_up(model: AdminTransformerModel, stored_args: Any = None) -> None:
    """Fill the omegas of a model that was just built from its profile (``--init-type adaptive``).

    Where the flags name a checkpoint that brings the omegas, no profile is read. Other init types
    have nothing to fill.

    Args:
        model: not wrapped, and not yet known to an optimizer.
        stored_args: the flags that fairseq stores in checkpoints, a Namespace or hydra's
            configuration, which get the omegas too.

    Raises:
        AdminError: if the profile is missing, damaged or another model's.
    """
    args = model.flags
    if not method_of(args).needs_profile or measures(args):
        return
    omegas = fill_from_file(model, args)
    # both get them: under hydra the model's flags are not those that are stored
    for flags in (args, stored_args):
        if flags is not None:
            options.store(flags, {"admin_omega": omegas, "omega_shape": args.omega_shape})


def _start_master_weights(model: AdminTransformerModel, optimizer: Any) -> None:
    """Start float32 master copies of omega from the profile's numbers, not from rounded ones.

    fairseq makes the copies of half-precision weights (``--fp16``, ``--bf16``).
    """
    omegas = options.stored_omegas(model.flags)
    if omegas and not measures(model.flags) and not model.restored:
        fill_master_weights(optimizer, model, omegas)


def _watch(model: AdminTransformerModel) -> None:
    """Have a model that was built be trained as its flags say, in loops of one's own too.

    It refuses to be trained before its omegas are set, and ``--freeze-first-omega`` and
    ``--freeze-omega`` hold.
    """
    args = model.flags
    # here, since no optimizer and no wrapper for several processes has seen the model yet
    if args.freeze_first_omega:
        freeze_first(model)
    if args.freeze_omega and method_of(args).needs_profile:
        freeze_all(model)
    if method_of(args).needs_profile and options.stored_omegas(args) is None:
        model.register_forward_pre_hook(_refuse_without_omegas)


def _refuse_without_omegas(model: AdminTransformerModel, inputs: tuple[Any, ...]) -> None:
    """Refuse to train a model before its omegas were set; a forward pre-hook.

    Raises:
        AdminError: with the lines that a training loop needs.
    """
    # both: profiling runs in training mode as well, under no_grad
    if not (model.training and torch.is_grad_enabled()) or model.restored or model.omegas_seen:
        return
    # by value: whoever has set omegas in a way of their own may train
    if all(bool(omega.eq(1).all()) for omega in named_omegas(model).values()):
        raise AdminError(
            f"--init-type {model.flags.init_type}: this model is trained before its omegas were "
            "set, which only fairseq-train does by itself. In a training loop of your own, before "
            "the first step and on its batch:\n"
            "  from admin_fairseq import apply_profile, profile_omega\n"
            "  apply_profile(model, profile_omega(model, sample))\n"
            "or, with --init-type adaptive and its profile:\n"
            "  from admin_fairseq.training import set_up\n"
            "  set_up(model)"
        )
    model.omegas_seen = True  # looking again at each update would make a GPU wait for the answer
