"""torch.load and torch.save of checkpoints: they hold plain values, are verified, and can be read again."""

import argparse
import functools
import io

import numpy as np
import torch

from .marks import is_mended, mark


def allow_checkpoint_classes():
    """torch >= 2.6 unpickles allow-listed classes only, and fairseq's checkpoints hold a Namespace.

    With ``--eval-bleu`` they hold numpy arrays as well: counts, in the meters. All of these are plain records:
    allowing them lets no code run. Everything else stays refused.
    """
    if hasattr(torch.serialization, "add_safe_globals"):
        torch.serialization.add_safe_globals([argparse.Namespace, *numpy_records()])


def numpy_records():
    """Return what an array or number of numpy's is unpickled with, under the names of numpy 1 and numpy 2."""
    core = np._core if hasattr(np, "_core") else np.core
    dtypes = [type(np.dtype(kind)) for kind in "?bBhHiIlLqQefd"]
    functions = [core.multiarray._reconstruct, core.multiarray.scalar]
    if not hasattr(
        torch.serialization, "get_unsafe_globals_in_checkpoint"
    ):  # before torch 2.6 there were no pairs
        return [np.ndarray, np.dtype, *dict.fromkeys(dtypes), *functions]
    named = [
        (function, f"{module}.multiarray.{function.__name__}")
        for function in functions
        for module in ("numpy.core", "numpy._core")
    ]
    return [np.ndarray, np.dtype, *dict.fromkeys(dtypes), *named]


def trust_broadcasts():
    """Resuming with several processes: rank 0 sends the state it has read, which holds DictConfigs.

    fairseq sends it through torch.save and torch.load. That data comes from our own rank 0, so
    there, and only there, loading may be complete; files stay restricted.
    """
    from fairseq.distributed import utils as distributed_utils

    original = distributed_utils._broadcast_object_slow
    if is_mended(original) or not hasattr(torch.serialization, "add_safe_globals"):
        return

    @functools.wraps(original)
    def broadcast_object(obj, src_rank, group, dist_device):
        broadcast = distributed_utils.broadcast
        if distributed_utils.get_rank(group) == src_rank:
            return original(obj, src_rank, group, dist_device)
        length = torch.zeros(1, dtype=torch.long, device=dist_device)
        broadcast(length, src=src_rank, group=group)
        data = torch.empty(int(length.item()), dtype=torch.uint8, device=dist_device)
        broadcast(data, src=src_rank, group=group)
        return torch.load(
            io.BytesIO(data.cpu().numpy().tobytes()), map_location="cpu", weights_only=False
        )

    distributed_utils._broadcast_object_slow = mark(broadcast_object)


class VerifyingTorch:
    """The module torch, as ``fairseq.checkpoint_utils`` sees it: ``load`` verifies what it reads.

    All that fairseq's commands read of a checkpoint comes through there: resuming, generating, validating, ensembles,
    language models, EMA.
    """

    mended_by_admin_fairseq = frozenset([""])

    def __getattr__(self, name):
        return getattr(torch, name)

    @staticmethod
    def load(file, *args, **kwargs):
        """Read a checkpoint that fairseq opened; flags of it that name a file to open are dropped.

        Raises:
            AdminError: naming the file and what is wrong with it.
        """
        from ..checkpoints import check_finite, read
        from ..checkpoints.flags import forget_paths

        if not isinstance(getattr(file, "name", None), str):
            return torch.load(file, *args, **kwargs)  # no file of a disk, but fairseq's own buffer
        state = read(file.name)
        if isinstance(state, dict):
            check_finite(state.get("model") or {}, file.name)
            forget_paths(state)
        return state


def verify_what_is_loaded():
    """torch does not compare checksums, and fairseq evaluates flags: have both checked wherever fairseq loads."""
    from fairseq import checkpoint_utils

    if not is_mended(checkpoint_utils.torch):
        checkpoint_utils.torch = VerifyingTorch()
