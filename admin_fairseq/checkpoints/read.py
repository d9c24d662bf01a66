"""Reading and writing checkpoints: what is read is verified, what is written is written whole."""

import contextlib
import copy
import os
import re
from argparse import Namespace
from collections.abc import Iterator
from typing import Any, Optional

import torch

from .. import files
from ..errors import AdminError, raise_all
from .flags import check_flags
from .verify import check_file, check_finite

State = dict[str, Any]

_KINDS = {
    "model": dict,
    "args": Namespace,
    "cfg": dict,
    "optimizer_history": list,
    "task_state": dict,
    "extra_state": dict,
}
# how torch's files begin, of today and before 1.6
_STARTS = (b"PK", b"\x80\x02")


def load_checkpoint(path: str, finite: bool = True) -> State:
    """Load a fairseq checkpoint without its optimizer's state, which is two thirds of most.

    Args:
        path: of the checkpoint.
        finite: refuse weights that hold NaN or infinity.

    Raises:
        AdminError: naming the file, if it cannot be read, or is not a fairseq checkpoint.
    """
    with mapped_checkpoint(path, finite) as state:
        return own_copy(state)


@contextlib.contextmanager
def mapped_checkpoint(path: str, finite: bool = True) -> Iterator[State]:
    """Yield what :func:`load_checkpoint` returns, with its tensors in the file: see :func:`mapped`.

    Raises:
        AdminError: as both.
    """
    with mapped(path) as state:
        if not isinstance(state, dict) or not isinstance(state.get("model"), dict):
            raise AdminError(f"{path}: not a fairseq checkpoint: it has no 'model'")
        for name, value in state["model"].items():
            if not isinstance(name, str) or not torch.is_tensor(value):
                raise AdminError(
                    f"{path}: not a fairseq checkpoint: its weight {name!r} is not a tensor with a "
                    "name"
                )
        if finite:
            check_finite(state["model"], path)
        state.pop("last_optimizer_state", None)
        yield state


@contextlib.contextmanager
def mapped(path: str) -> Iterator[Any]:
    """Yield what :func:`read` returns, with its tensors in the file: what is not used is not read.

    The tensors are for the block alone, since whoever writes into the file would change them. A
    file that is replaced, as this package and fairseq with it do, stays for the block as it was.

    Raises:
        AdminError: also at the end of the block, if the file was written into: what the block made
            is then of two files. If the file was made shorter, the system may end the process
            before (SIGBUS).
    """
    before = _stamp(path)
    yield read(path, in_file=True)
    after = _stamp(path)
    if before and after and after[0] == before[0] and after != before:
        raise AdminError(
            f"{path}: was written into while it was read; try again when what writes it has ended"
        )


def own_copy(state: State) -> State:
    """Return a state whose tensors lie in no file; those that share memory share it in the copy."""
    return copy.deepcopy(state)


def _stamp(path: str) -> Optional[tuple[int, int, int]]:
    """Return which file it is, and what changes when it is written into; None if there is none."""
    try:
        status = os.stat(path)
    except (OSError, ValueError):
        return None
    return status.st_ino, status.st_size, status.st_mtime_ns


def read(path: str, in_file: bool = False) -> State:
    """Load what torch wrote to ``path`` to the CPU, if it is not damaged.

    Of classes only those on torch's list of safe ones are unpickled.

    Args:
        path: of the file.
        in_file: leave the tensors in the file, where its format allows it: see :func:`mapped`.

    Raises:
        AdminError: naming the file, if it does not exist, is damaged or something else, or its
            flags are not plain values.
    """
    check_file(path)
    try:
        state = _load(path, in_file)
    except OSError as error:
        raise AdminError(f"{path}: cannot be read: {error.strerror or error}") from None
    except Exception as error:  # torch raises half a dozen kinds for files that it cannot read
        raise AdminError(f"{path}: cannot be read as a checkpoint: {_why(path, error)}") from None
    if isinstance(state, dict):
        # before flags are looked at, which are parts of these
        raise_all(f"{path}: not a fairseq checkpoint:", _odd_parts(state))
        check_flags(state, path)
    return state


def _load(path: str, in_file: bool) -> Any:
    # to the CPU: it may be of a GPU that this machine does not have
    if in_file:
        # else the format of torch before 1.6, or a file system whose files cannot be mapped
        with contextlib.suppress(Exception):
            return torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    return torch.load(path, map_location="cpu", weights_only=True)


def updates_of(state: State) -> Optional[int]:
    """Return after how many updates a checkpoint was written; None if it does not say."""
    history = state.get("optimizer_history") or [{}]
    updates = history[-1].get("num_updates")
    return updates if type(updates) is int else None


def save_checkpoint(state: State, path: str) -> None:
    """Write a checkpoint atomically: whole or not at all.

    Raises:
        AdminError: naming the file, if it cannot be written.
    """
    try:
        with files.replacing(path) as file:
            torch.save(state, file)
    except OSError as error:
        raise AdminError(f"{path}: cannot be written: {error.strerror or error}") from None
    except RuntimeError:  # torch's own, about its writer's insides
        raise AdminError(f"{path}: cannot be written: is the disk full?") from None


def _odd_parts(state: State) -> list[str]:
    """Return which parts are of another kind than fairseq writes; each may be missing."""
    odd = []
    for name, kind in _KINDS.items():
        if state.get(name) is not None and not isinstance(state[name], kind):
            odd.append(f"its {name} is not a {kind.__name__}")
    history = state.get("optimizer_history")
    if isinstance(history, list) and not all(isinstance(item, dict) for item in history):
        odd.append("its optimizer_history is not a list of dictionaries")
    return odd


def _why(path: str, error: Exception) -> str:
    """Return why torch could not load a file, in words that help."""
    # torch's words for a class that is not allowed, of archives and of its older format
    foreign = re.search(r"(?:Unsupported global:|unsupported) GLOBAL (\S+)", str(error))
    if foreign:
        reason = f"it holds a {foreign[1]}, which is not loaded"
        if foreign[1].startswith("fairseq.meters."):
            reason += "; if it is of the authors' code, use admin-fairseq import CHECKPOINT OUT"
        return reason
    with open(path, "rb") as file:
        start = file.read(2)
    if not start:
        return "it is empty"
    return "it is truncated or damaged" if start in _STARTS else "it is something else"
