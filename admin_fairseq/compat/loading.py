"""Loading checkpoints: torch refuses what fairseq keeps in them, and takes damaged ones."""

import argparse
import codecs
import functools
import io
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from ..program import is_evaluation
from .marks import is_mended, mark


def allow_checkpoint_classes() -> None:
    """Allow torch to unpickle the classes of fairseq's checkpoints.

    torch >= 2.6 unpickles allow-listed classes only, and fairseq's checkpoints hold a Namespace.
    With ``--eval-bleu`` they hold numpy arrays as well: counts, in the meters. All of these are
    plain records: allowing them lets no code run. Everything else stays refused.
    """
    torch.serialization.add_safe_globals([argparse.Namespace, *_numpy_records()])


def _numpy_records() -> list[Any]:
    """Return what numpy's arrays and numbers are unpickled with, by names of numpy 1 and 2."""
    dtypes = dict.fromkeys(type(np.dtype(kind)) for kind in "?bBhHiIlLqQefd")
    has_pairs = hasattr(torch.serialization, "get_unsafe_globals_in_checkpoint")  # torch >= 2.6
    # what bytes are pickled with, and sets; later releases allow both themselves
    named: list[Any] = [] if has_pairs else [codecs.encode, set]
    for number in (np.zeros(1), np.float64(0)):
        function: Any = number.__reduce__()[0]  # _reconstruct, scalar; their module moved
        for module in ("numpy.core.multiarray", "numpy._core.multiarray"):
            if has_pairs:
                named.append((function, f"{module}.{function.__name__}"))
            else:
                named.append(_as_if_of(module, function))
    return [np.ndarray, np.dtype, *dtypes, *named]


def _as_if_of(module: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function that has another module's name, which is what torch < 2.6 looks at."""

    @functools.wraps(function)
    def under_that_name(*args: Any) -> Any:
        return function(*args)

    under_that_name.__module__ = module
    return under_that_name


def trust_broadcasts() -> None:
    """Have processes load in full what rank 0 of their own training sends them on resuming.

    It sends the state that it has read, which holds DictConfigs, through torch.save and torch.load.
    There, and only there, loading is not restricted; files stay so.
    """
    from fairseq.distributed import utils as distributed_utils

    original = distributed_utils._broadcast_object_slow
    if is_mended(original):
        return

    @functools.wraps(original)
    def broadcast_object(obj: Any, src_rank: int, group: Any, dist_device: Any) -> Any:
        broadcast = distributed_utils.broadcast
        if distributed_utils.get_rank(group) == src_rank:
            return original(obj, src_rank, group, dist_device)
        length = torch.zeros(1, dtype=torch.long, device=dist_device)
        broadcast(length, src=src_rank, group=group)
        data = torch.empty(int(length.item()), dtype=torch.uint8, device=dist_device)
        broadcast(data, src=src_rank, group=group)
        buffer = io.BytesIO(data.cpu().numpy().tobytes())
        return torch.load(buffer, map_location="cpu", weights_only=False)

    distributed_utils._broadcast_object_slow = mark(broadcast_object)


class _VerifyingTorch:
    """The module torch, as ``fairseq.checkpoint_utils`` sees it: ``load`` verifies what it reads.

    All that fairseq's commands read of a checkpoint comes through there: resuming, generating,
    validating, ensembles, language models, EMA.
    """

    mended_by_admin_fairseq = frozenset([""])  # as compat.marks has it

    def __getattr__(self, name: str) -> Any:
        return getattr(torch, name)

    @staticmethod
    def load(file: Any, *args: Any, **kwargs: Any) -> Any:
        """Read a checkpoint that fairseq opened; flags of it that name a file to open are dropped.

        A command that trains nothing gets no optimizer's state, which is two thirds of most files.

        Raises:
            AdminError: naming the file and what is wrong with it.
        """
        # here, or there is a circle: they import the models, which the plugin registers after this
        from ..checkpoints import check_finite, mapped, own_copy, read
        from ..checkpoints.flags import forget_paths

        if not isinstance(getattr(file, "name", None), str):
            return torch.load(file, *args, **kwargs)  # no file of a disk, but fairseq's own buffer
        if is_evaluation():
            with mapped(file.name) as state:
                if isinstance(state, dict):
                    state.pop("last_optimizer_state", None)
                state = own_copy(state)
        else:
            state = read(file.name)
        if isinstance(state, dict):
            check_finite(state.get("model") or {}, file.name)
            forget_paths(state)
        return state


def verify_what_is_loaded() -> None:
    """Have checksums compared and flags checked wherever fairseq loads.

    torch does not compare the checksums, and fairseq evaluates the flags.
    """
    from fairseq import checkpoint_utils

    if not is_mended(checkpoint_utils.torch):
        checkpoint_utils.torch = _VerifyingTorch()
