"""A training that is told to stop saves first: what a preempted job lost is no update.

With ``ADMIN_FAIRSEQ_SAVE_ON_SIGNAL=1`` in its environment, which ``admin-fairseq train`` and
``sweep`` set, fairseq-train answers SIGTERM and SIGUSR1 so: it ends the update that it is in, saves
as at the end of an epoch (``checkpoint_last.pt``), and exits with code 130. The same command goes
on from there, and ends as a training that was never stopped, bit for bit. Without the variable
nothing of fairseq's is changed.

Processes that train together agree after each update whether one of them was told to stop, so that
all stop at the same update. Under torchrun they exit with code 0: it takes any other for a failure,
and kills those that are still saving.
"""

from __future__ import annotations

import functools
import logging
import os
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from fairseq.trainer import Trainer

from .compat.marks import is_mended, mark

logger = logging.getLogger(__name__)

# a copy of both is in experiments/runs/children.py, which is light
VARIABLE = "ADMIN_FAIRSEQ_SAVE_ON_SIGNAL"
SAVED = "told to stop: saved"
STOPPED = 130
SIGNALS = (signal.SIGTERM, signal.SIGUSR1)


@dataclass
class Request:
    """Whether this process was told to stop."""

    asked: bool = False

    def listen(self) -> None:
        """Have :data:`SIGNALS` ask, instead of ending the process."""
        for number in SIGNALS:
            signal.signal(number, self._ask)

    def be_deaf(self) -> None:
        """Ignore :data:`SIGNALS` from now on: while Python shuts down, they would end it."""
        for number in SIGNALS:
            signal.signal(number, signal.SIG_IGN)

    def _ask(self, *_: Any) -> None:
        self.asked = True
        # processes that load data may be told to stop as well; torch would raise an error for that
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)


def install() -> None:
    """Have trainings of this process save when they are told to stop, if the variable is set.

    Twice changes nothing.
    """
    if not os.environ.get(VARIABLE) or is_mended(Trainer.begin_epoch, "preemption"):
        return
    request = Request()
    begin_epoch = Trainer.begin_epoch

    @functools.wraps(begin_epoch)
    def begin_and_listen(self: Trainer, epoch: int) -> Any:
        # not before: until the first update there is nothing to save, and a signal ends the process
        request.listen()
        return begin_epoch(self, epoch)

    Trainer.begin_epoch = mark(begin_and_listen, "preemption")
    # fairseq's training is a module, a program, or spawned
    for name in ("fairseq_cli.train", "__main__", "__mp_main__"):
        module = sys.modules.get(name)
        if module is not None and hasattr(module, "validate_and_save"):
            ended = _ends_when_asked(module.validate_and_save, request)
            module.validate_and_save = ended  # type: ignore[attr-defined]


def _ends_when_asked(validate_and_save: Callable[..., Any], request: Request) -> Callable[..., Any]:
    """Return fairseq's function, called after each update, that then stops if it is asked to."""

    @functools.wraps(validate_and_save)
    def end_if_asked(
        cfg: Any, trainer: Trainer, task: Any, epoch_itr: Any, subsets: Any, end_of_epoch: bool
    ) -> Any:
        # first as always: a validation that is due is not lost
        valid_losses, should_stop = validate_and_save(
            cfg, trainer, task, epoch_itr, subsets, end_of_epoch
        )
        if not should_stop and _any_process(request.asked, trainer):
            if not _has_saved(cfg, trainer, epoch_itr, end_of_epoch):
                from fairseq import checkpoint_utils

                checkpoint_utils.save_checkpoint(cfg.checkpoint, trainer, epoch_itr, None)
            _any_process(True, trainer)  # the first process saves: the others wait for it here
            # a warning, since only the first process shows what is less
            logger.warning("%s at update %d", SAVED, trainer.get_num_updates())
            request.be_deaf()
            raise SystemExit(0 if "TORCHELASTIC_RUN_ID" in os.environ else STOPPED)
        return valid_losses, should_stop

    return end_if_asked


def _any_process(asked: bool, trainer: Trainer) -> bool:
    """Whether one of the processes that train together was asked; all must call this."""
    if trainer.data_parallel_world_size == 1:
        return asked
    from fairseq.distributed import utils

    flag = torch.tensor([float(asked)], device=trainer.device)
    utils.all_reduce(flag, group=trainer.data_parallel_process_group)
    return bool(flag.item() > 0)


def _has_saved(cfg: Any, trainer: Trainer, epoch_itr: Any, end_of_epoch: bool) -> bool:
    """Whether fairseq saved after this update: its own rules, for an end that is not the last."""
    updates, settings = trainer.get_num_updates(), cfg.checkpoint
    if end_of_epoch and epoch_itr.epoch % settings.save_interval == 0:
        return True
    interval = settings.save_interval_updates
    is_due = interval > 0 and updates > 0 and updates % interval == 0
    return bool(is_due and updates >= cfg.dataset.validate_after_updates)
