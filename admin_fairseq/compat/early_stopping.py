"""``--patience`` and the best score: of one training, and of the whole of it."""

import functools
import math
import sys
from typing import Any, Optional

from .marks import is_mended, mark

_ENTRY = "early_stopping"  # its name in a checkpoint's extra_state


def keep_patience() -> None:
    """Have each training count afresh, and checkpoints keep the count.

    fairseq keeps the best score, and how often it was missed, as attributes of two functions. They
    outlive a training: the next one in the process was compared with the best of the one before,
    saved no ``checkpoint_best.pt`` and was stopped although it improved. And they end with the
    process: a resumed training was patient anew.

    The count is ``extra_state["early_stopping"]``: ``{"best": float, "num_runs": int}``. It is
    restored where fairseq restores its best score: not with ``--reset-meters``,
    ``--reset-optimizer`` or ``--finetune-from-model``.
    """
    from fairseq.trainer import Trainer

    if is_mended(Trainer.__init__, "patience"):
        return
    start, save, load = Trainer.__init__, Trainer.save_checkpoint, Trainer.load_checkpoint

    @functools.wraps(start)
    def __init__(self: Any, *args: Any, **kwargs: Any) -> None:
        start(self, *args, **kwargs)
        forget()

    @functools.wraps(save)
    def save_checkpoint(self: Any, filename: str, extra_state: dict[str, Any]) -> Any:
        count = state()
        return save(self, filename, {**extra_state, _ENTRY: count} if count else extra_state)

    @functools.wraps(load)
    def load_checkpoint(
        self: Any, filename: str, reset_optimizer: bool = False, *args: Any, **kwargs: Any
    ) -> Any:
        extra_state = load(self, filename, reset_optimizer, *args, **kwargs)
        reset_meters = kwargs.get("reset_meters", args[2] if len(args) > 2 else False)
        if extra_state is not None and not reset_optimizer and not reset_meters:
            restore(extra_state.get(_ENTRY))
        return extra_state

    Trainer.__init__ = mark(__init__, "patience")
    Trainer.save_checkpoint = mark(save_checkpoint, "patience")
    Trainer.load_checkpoint = mark(load_checkpoint, "patience")


def _deciders() -> list[Any]:
    """Return fairseq's functions that count: its training is a program, a module, or spawned."""
    found = []
    for name in ("fairseq_cli.train", "__main__", "__mp_main__"):
        function = getattr(sys.modules.get(name), "should_stop_early", None)
        if function is not None:
            found.append(function)
    return found


def forget() -> None:
    """Start afresh, as in a process of one's own."""
    from fairseq import checkpoint_utils

    for function in [checkpoint_utils.save_checkpoint, *_deciders()]:
        for name in ("best", "num_runs"):
            function.__dict__.pop(name, None)


def state() -> Optional[dict[str, Any]]:
    """Return what a checkpoint keeps, or None if nothing was counted yet."""
    for function in _deciders():
        if hasattr(function, "best"):
            return {"best": float(function.best), "num_runs": int(function.num_runs)}
    return None


def restore(entry: Any) -> None:
    """Go on counting where a checkpoint was.

    Args:
        entry: what :func:`state` returned; without it, or with something else, counting starts
            anew.
    """
    if not isinstance(entry, dict):
        return
    best, num_runs = entry.get("best"), entry.get("num_runs")
    if type(best) is not float or math.isnan(best) or type(num_runs) is not int or num_runs < 0:
        return
    for function in _deciders():
        function.best, function.num_runs = best, num_runs
