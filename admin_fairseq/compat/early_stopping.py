"""``--patience`` and the best score: of one training, and of the whole of it."""

import functools
import math
import sys

from .marks import is_mended, mark

ENTRY = "early_stopping"  # its name in a checkpoint's extra_state


def keep_patience():
    """fairseq keeps the best score, and how often it was missed, as attributes of two functions.

    They outlive a training: the next one in the process was compared with the best of the one before, saved
    no ``checkpoint_best.pt`` and was stopped although it improved. And they end with the process: a resumed
    training was patient anew. Here each training starts afresh, and checkpoints keep the count,
    ``extra_state["early_stopping"]``: ``{"best": float, "num_runs": int}``. It is restored where
    fairseq restores its best score: not with ``--reset-meters``, ``--reset-optimizer`` or ``--finetune-from-model``.
    """
    from fairseq.trainer import Trainer

    if is_mended(Trainer.__init__, "patience"):
        return
    start, save, load = Trainer.__init__, Trainer.save_checkpoint, Trainer.load_checkpoint

    @functools.wraps(start)
    def __init__(self, *args, **kwargs):
        start(self, *args, **kwargs)
        forget()

    @functools.wraps(save)
    def save_checkpoint(self, filename, extra_state):
        count = state()
        return save(self, filename, {**extra_state, ENTRY: count} if count else extra_state)

    @functools.wraps(load)
    def load_checkpoint(self, filename, reset_optimizer=False, *args, **kwargs):
        extra_state = load(self, filename, reset_optimizer, *args, **kwargs)
        reset_meters = kwargs.get("reset_meters", args[2] if len(args) > 2 else False)
        if extra_state is not None and not reset_optimizer and not reset_meters:
            restore(extra_state.get(ENTRY))
        return extra_state

    Trainer.__init__ = mark(__init__, "patience")
    Trainer.save_checkpoint = mark(save_checkpoint, "patience")
    Trainer.load_checkpoint = mark(load_checkpoint, "patience")


def deciders():
    """Return fairseq's functions that count; its training may be a program or a module, and spawned."""
    modules = (sys.modules.get(name) for name in ("fairseq_cli.train", "__main__", "__mp_main__"))
    found = (getattr(module, "should_stop_early", None) for module in modules)
    return [function for function in found if function is not None]


def forget():
    """Start afresh, as in a process of one's own."""
    from fairseq import checkpoint_utils

    for function in [checkpoint_utils.save_checkpoint, *deciders()]:
        for name in ("best", "num_runs"):
            function.__dict__.pop(name, None)


def state():
    """Return what a checkpoint keeps, or None if nothing was counted yet."""
    for function in deciders():
        if hasattr(function, "best"):
            return {"best": float(function.best), "num_runs": int(function.num_runs)}
    return None


def restore(entry):
    """Go on counting where a checkpoint was; one without the entry, or with another thing there, starts anew."""
    numbers = (entry.get("best"), entry.get("num_runs")) if isinstance(entry, dict) else ()
    if (
        [type(number) for number in numbers] != [float, int]
        or math.isnan(numbers[0])
        or numbers[1] < 0
    ):
        return
    for function in deciders():
        function.best, function.num_runs = numbers
