"""Reading and writing checkpoints: what is read is verified, what is written is written whole."""

import re
from argparse import Namespace
from typing import Any, Dict, List

import torch

from .. import files
from ..errors import AdminError, raise_all
from .flags import check_flags
from .verify import check_file, check_finite

State = Dict[str, Any]


def read(path: str) -> State:
    """Load what torch wrote to ``path`` to the CPU, if nothing of it is damaged; allow-listed classes alone are unpickled.

    Raises:
        AdminError: naming the file, if it is missing, damaged or something else, or its flags are not plain values.
    """
    check_file(path)
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise AdminError(f"{path}: cannot be read: {error.strerror or error}") from None
    except Exception as error:  # torch raises half a dozen kinds for files that it cannot read
        raise AdminError(f"{path}: cannot be read as a checkpoint: {_why(path, error)}") from None
    if isinstance(state, dict):
        raise_all(f"{path}: not a fairseq checkpoint:", odd_parts(state))
        check_flags(state, path)
    return state


def load_checkpoint(path: str, finite: bool = True) -> State:
    """Load a fairseq checkpoint: see :func:`read`.

    Args:
        finite: refuse weights that hold NaN or infinity.

    Raises:
        AdminError: naming the file, if it cannot be read, or is no fairseq checkpoint.
    """
    state = read(path)
    if not isinstance(state, dict) or not isinstance(state.get("model"), dict):
        raise AdminError(f"{path}: not a fairseq checkpoint: it has no 'model'")
    odd = [
        name
        for name, value in state["model"].items()
        if not isinstance(name, str) or not torch.is_tensor(value)
    ]
    if odd:
        raise AdminError(
            f"{path}: not a fairseq checkpoint: its weight {odd[0]!r} is no tensor with a name"
        )
    if finite:
        check_finite(state["model"], path)
    return state


def odd_parts(state: State) -> List[str]:
    """Return which parts of a checkpoint are of another kind than fairseq writes; each may be missing."""
    kinds = {
        "model": dict,
        "args": Namespace,
        "cfg": dict,
        "optimizer_history": list,
        "task_state": dict,
        "extra_state": dict,
    }
    odd = [
        name
        for name, kind in kinds.items()
        if state.get(name) is not None and not isinstance(state[name], kind)
    ]
    history = state.get("optimizer_history")
    if isinstance(history, list) and not all(isinstance(item, dict) for item in history):
        odd.append("optimizer_history")
    return [f"its {name} is no {kinds[name].__name__}" for name in odd]


def _why(path: str, error: Exception) -> str:
    foreign = re.search(r"(?:Unsupported global:|unsupported) GLOBAL (\S+)", str(error))
    if foreign:
        theirs = foreign[1].startswith("fairseq.meters.")
        hint = (
            "; is it of the authors' code? Then: admin-fairseq import CHECKPOINT OUT"
            if theirs
            else ""
        )
        return f"it holds a {foreign[1]}, which is not loaded{hint}"
    with open(path, "rb") as file:
        start = file.read(2)
    if not start:
        return "it is empty"
    if start in (b"PK", b"\x80\x02"):  # how torch's files begin, of today and before 1.6
        return "it is truncated or damaged"
    return "it is something else"


def save_checkpoint(state: State, path: str) -> None:
    """Write a checkpoint, whole or not at all.

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
