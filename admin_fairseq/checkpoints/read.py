"""Reading and writing checkpoints: what is read is verified, what is written is written whole."""

import re
from argparse import Namespace
from typing import Any

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
    """Load a fairseq checkpoint: see :func:`read`.

    Args:
        path: of the checkpoint.
        finite: refuse weights that hold NaN or infinity.

    Raises:
        AdminError: naming the file, if it cannot be read, or is not a fairseq checkpoint.
    """
    state = read(path)
    if not isinstance(state, dict) or not isinstance(state.get("model"), dict):
        raise AdminError(f"{path}: not a fairseq checkpoint: it has no 'model'")
    for name, value in state["model"].items():
        if not isinstance(name, str) or not torch.is_tensor(value):
            raise AdminError(
                f"{path}: not a fairseq checkpoint: its weight {name!r} is not a tensor with a name"
            )
    if finite:
        check_finite(state["model"], path)
    return state


def read(path: str) -> State:
    """Load what torch wrote to ``path`` to the CPU, if it is not damaged.

    Of classes only those on torch's list of safe ones are unpickled.

    Raises:
        AdminError: naming the file, if it does not exist, is damaged or something else, or its
            flags are not plain values.
    """
    check_file(path)
    try:
        # to the CPU: it may be of a GPU that this machine does not have
        state = torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise AdminError(f"{path}: cannot be read: {error.strerror or error}") from None
    except Exception as error:  # torch raises half a dozen kinds for files that it cannot read
        raise AdminError(f"{path}: cannot be read as a checkpoint: {_why(path, error)}") from None
    if isinstance(state, dict):
        # before flags are looked at, which are parts of these
        raise_all(f"{path}: not a fairseq checkpoint:", _odd_parts(state))
        check_flags(state, path)
    return state


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
