"""Checkpoints that can be read anywhere: what fairseq saves becomes plain values first.

torch.load refuses whatever it does not know (since 2.6), and a training that ended well would be
refused by every command after it: ``--eval-bleu`` leaves numpy arrays in the meters, and other
flags and tasks may leave other things.
"""

import argparse
import enum
import functools
import logging
import os
import pathlib
from collections import OrderedDict, defaultdict
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from omegaconf import OmegaConf

from ..files import is_special
from .marks import is_mended, mark

logger = logging.getLogger(__name__)
_PLAIN = (type(None), bool, int, float, str, bytes, torch.Tensor, torch.dtype, torch.device)


def save_plain_values() -> None:
    """Have fairseq save plain values, and meters take them back."""
    from fairseq import checkpoint_utils
    from fairseq.logging.meters import AverageMeter

    save, load_meter = checkpoint_utils.torch_persistent_save, AverageMeter.load_state_dict
    if is_mended(save):
        return

    @functools.wraps(save)
    def save_plain(obj: Any, filename: Any, async_write: bool = False) -> Any:
        return save(plain(obj), filename, async_write=async_write)

    @functools.wraps(load_meter)
    def load_counts(self: Any, state_dict: dict[str, Any]) -> None:
        """Counts are arrays while they are added up, and lists in a file."""
        load_meter(self, state_dict)
        for name in ("val", "sum"):
            if isinstance(getattr(self, name), list):
                setattr(self, name, np.array(getattr(self, name)))

    checkpoint_utils.torch_persistent_save = mark(save_plain)
    AverageMeter.load_state_dict = mark(load_counts)


def copy_whole_files() -> None:
    """Have fairseq copy checkpoints to ``checkpoint_last.pt`` atomically: beside it, then renamed.

    It copies byte by byte, and if killed meanwhile leaves a part of one.
    """
    from fairseq.file_io import PathManager

    copy = PathManager.copy
    if is_mended(copy):
        return

    @functools.wraps(copy)
    def copy_whole(src_path: str, dst_path: str, overwrite: bool = False) -> Any:
        if "://" in str(dst_path) or (os.path.exists(dst_path) and not overwrite):
            return copy(src_path, dst_path, overwrite)
        if is_special(dst_path):
            return copy(src_path, dst_path, overwrite)
        dst_path = os.path.realpath(dst_path)  # a link leads on to the file
        done = copy(src_path, f"{dst_path}.tmp", True)
        os.replace(f"{dst_path}.tmp", dst_path)
        return done

    PathManager.copy = staticmethod(mark(copy_whole))


def plain(state: Any) -> Any:
    """Return a checkpoint of plain values: no numpy arrays, enumerations, paths and the like.

    What has no plain value stays as it is; the log says that such a file cannot be read again, and
    where it is.
    """
    odd: list[str] = []
    result = _plain(state, "", odd)
    for where in odd:
        logger.warning(
            "the checkpoint holds %s, which is not a plain value: torch will refuse to load it",
            where,
        )
    return result


def _plain(value: Any, where: str, odd: list[str]) -> Any:
    """Return a value of plain values; what has none is listed in ``odd`` with its place."""
    if type(value) in _PLAIN or isinstance(value, torch.Tensor):
        return value
    if isinstance(value, enum.Enum):
        return _plain(value.value, where, odd)
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, pathlib.PurePath):
        return str(value)
    for kind in (bool, int, float, str):  # of a derived class
        if isinstance(value, kind):
            return kind(value)
    if OmegaConf.is_config(value):
        value = OmegaConf.to_container(value, resolve=True, enum_to_str=True)
    if isinstance(value, argparse.Namespace):
        return argparse.Namespace(**_plain(vars(value), where, odd))
    if isinstance(value, Mapping):
        return _plain_mapping(value, where, odd)
    if isinstance(value, (list, tuple)):
        items = [_plain(item, f"{where}[{number}]", odd) for number, item in enumerate(value)]
        return items if isinstance(value, list) else tuple(items)
    if isinstance(value, (set, frozenset)):
        return {_plain(item, where, odd) for item in value}
    odd.append(f"a {type(value).__module__}.{type(value).__qualname__} at {where or 'its top'}")
    return value


def _plain_mapping(value: Mapping, where: str, odd: list[str]) -> dict:
    is_ordered = isinstance(value, OrderedDict) and not isinstance(value, defaultdict)
    items: dict = OrderedDict() if is_ordered else {}
    for key, item in value.items():
        items[_plain(key, where, odd)] = _plain(item, f"{where}.{key}".lstrip("."), odd)
    if is_ordered and hasattr(value, "_metadata"):
        # state dicts of torch's have their modules' versions beside their items
        items._metadata = value._metadata  # type: ignore[attr-defined]
    return items
