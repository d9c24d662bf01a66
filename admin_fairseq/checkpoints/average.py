"""Averaging checkpoints: the mean of weights, omegas included. fairseq's script is in no wheel.

Averaging the last epochs is part of the papers' recipes. Average before folding, not after.
"""

import logging
import os
import re
from collections.abc import Sequence
from typing import Optional

import torch

from ..errors import AdminError, raise_all
from ..weights import Weights, differences
from .read import State, mapped_checkpoint, own_copy, save_checkpoint
from .verify import check_finite

logger = logging.getLogger(__name__)
_EMA = ("ema", "ema_fp32_params")  # where fairseq keeps the EMA in extra_state
_HALVES = (torch.float16, torch.bfloat16)


def average_to_file(paths: Sequence[str], output: str, ema: bool = False) -> None:
    """Average ``paths`` (their EMAs, if ``ema``) and write the result to ``output``.

    Raises:
        AdminError: if ``output`` is one of the inputs, or anything cannot be read or written.
    """
    # by real paths: a link to an input is the input
    if os.path.realpath(output) in {os.path.realpath(path) for path in paths}:
        raise AdminError(f"--output {output}: is one of the inputs, and would be overwritten")
    if os.path.isdir(output):
        raise AdminError(f"--output {output}: is a folder; name a file")
    if not os.path.isdir(os.path.dirname(os.path.abspath(output))):
        raise AdminError(f"--output {output}: its folder does not exist")
    for path in paths:
        logger.info("averaging %s", path)
    save_checkpoint(average(paths, ema), output)
    logger.info("average of %d checkpoints written to %s", len(paths), output)


def find_checkpoints(
    folder: str,
    count: int,
    by_updates: bool = False,
    upper_bound: Optional[int] = None,
    suffix: Optional[str] = None,
) -> list[str]:
    """Return the last ``count`` checkpoints of a ``--save-dir``, newest first.

    Args:
        folder: the ``--save-dir``.
        count: how many.
        by_updates: take ``checkpoint_EPOCH_UPDATES.pt`` by updates, not ``checkpointEPOCH.pt`` by
            epoch.
        upper_bound: ignore those after this epoch, or update.
        suffix: the training's ``--checkpoint-suffix``; None is for the only one in the folder.

    Raises:
        AdminError: if there are fewer, or checkpoints of several suffixes and none without.
    """
    if not os.path.isdir(folder):
        raise AdminError(f"--inputs {folder}: no such folder")
    by_suffix = _checkpoints_by_suffix(folder, by_updates, upper_bound)
    if suffix is None:
        # the mean of two trainings' models is no model
        if "" not in by_suffix and len(by_suffix) > 1:
            raise AdminError(
                f"--inputs {folder}: holds checkpoints of several trainings; name one with "
                f"--checkpoint-suffix: {', '.join(sorted(by_suffix))}"
            )
        suffix = "" if "" in by_suffix else next(iter(by_suffix), "")
    found = by_suffix.get(suffix, [])
    if len(found) < count:
        kind = "update" if by_updates else "epoch"
        raise AdminError(
            f"--inputs {folder}: {count} {kind} checkpoints asked for, {len(found)} found; ask for "
            "fewer, or train with --keep-last-epochs or --keep-interval-updates large enough"
        )
    # as numbers: checkpoint10 comes after checkpoint9
    return [path for _, path in sorted(found, reverse=True)[:count]]


def _checkpoints_by_suffix(
    folder: str, by_updates: bool, upper_bound: Optional[int]
) -> dict[str, list[tuple[int, str]]]:
    """Return suffix -> [(epoch or update, path)]."""
    number = r"_\d+_(\d+)" if by_updates else r"(\d+)"
    pattern = re.compile(rf"checkpoint{number}(\D.*)?\.pt")
    found: dict[str, list[tuple[int, str]]] = {}
    for name in os.listdir(folder):
        match = pattern.fullmatch(name)
        if match and (upper_bound is None or int(match[1]) <= upper_bound):
            one = (int(match[1]), os.path.join(folder, name))
            found.setdefault(match[2] or "", []).append(one)
    return found


def average(paths: Sequence[str], ema: bool = False) -> State:
    """Return a checkpoint whose weights are the mean of those in ``paths``.

    Means are computed in float64. Half-precision weights come out as float32. All else is that of
    the first checkpoint, without what belongs to that checkpoint's weights alone: its optimizer's
    state, and its EMA.

    Args:
        paths: of the checkpoints, one or more.
        ema: average the exponential moving averages that ``--store-ema`` keeps, instead of the
            weights.

    Raises:
        AdminError: if a file cannot be read, has no EMA, or the models differ.
    """
    result, means = _first(paths[0], ema)
    # one running sum: as many checkpoints as one likes fit into memory, one at a time
    for path in paths[1:]:
        with mapped_checkpoint(path) as state:
            means.add(path, _weights_to_average(state, path, ema))
    result["model"] = means.weights()
    return result


def _first(path: str, ema: bool) -> tuple[State, "_Means"]:
    """Return what the result has of the first checkpoint but weights, and these as a first sum."""
    with mapped_checkpoint(path) as state:
        means = _Means(path, _weights_to_average(state, path, ema))
        rest = {**state, "model": None}
        # these belong to the first checkpoint's weights, and no training continues from a mean
        extra_state = rest.get("extra_state")
        if extra_state:
            rest["extra_state"] = {k: v for k, v in extra_state.items() if k not in _EMA}
        return own_copy(rest), means


class _Means:
    """The sum of several checkpoints' weights, in float64, and then their means."""

    def __init__(self, path: str, weights: Weights) -> None:
        self._path = path
        self._count = 1
        self._dtypes = {name: weight.dtype for name, weight in weights.items()}
        # copies: .double() of a float64 weight is the weight itself, under all its names
        self._sums = {n: weight.to(torch.float64, copy=True) for n, weight in weights.items()}
        self._ties = _ties(weights)

    def add(self, path: str, weights: Weights) -> None:
        """Add one more checkpoint.

        Raises:
            AdminError: if it is of another model.
        """
        _check_same_model(self._path, self._sums, path, weights)
        self._count += 1
        tied = _ties(weights)
        self._ties = [names for names in self._ties if names in tied]
        for name, weight in weights.items():
            self._sums[name] += weight  # each element becomes a float64 first

    def weights(self) -> Weights:
        """Return the means; the sums are given up as they are divided."""
        means = {}
        for name, dtype in self._dtypes.items():
            dtype = torch.float32 if dtype in _HALVES else dtype
            means[name] = (self._sums.pop(name) / self._count).to(dtype)
        # else a table that embeds and projects would lie in the file once for each of its names
        for names in self._ties:
            for name in names:
                means[name] = means[names[0]]
        return means


def _ties(weights: Weights) -> list[list[str]]:
    """Return the names, of each tensor that has several."""
    names: dict[tuple[object, ...], list[str]] = {}
    for name, weight in weights.items():
        start = (weight.untyped_storage().data_ptr(), weight.storage_offset())
        names.setdefault((*start, weight.shape, weight.stride()), []).append(name)
    return [tied for tied in names.values() if len(tied) > 1]


def _weights_to_average(state: State, path: str, ema: bool) -> Weights:
    """Return a checkpoint's weights, or the EMA that ``--store-ema`` kept, in float32 if it has it.

    Raises:
        AdminError: if there is no EMA, it lacks weights of the model, or some are not finite.
    """
    if not ema:
        return state["model"]
    kept = state.get("extra_state") or {}
    found = kept.get("ema_fp32_params") or kept.get("ema")
    if not found:
        raise AdminError(f"{path}: holds no EMA; train with --store-ema, or average without --ema")
    # fairseq's EMA has none, and a model without is taken for one of an early release
    versions = {name: weight for name, weight in state["model"].items() if "version" in name}
    weights = {**versions, **found}
    raise_all(
        f"{path}: its EMA is not of its model (without this plugin fairseq's EMA loses the final "
        "LayerNorms of Pre-LN models); average without --ema:",
        differences(state["model"], weights),
    )
    # load_checkpoint has looked at the weights alone
    check_finite(weights, f"{path}, its EMA")
    return weights


def _check_same_model(first_path: str, first: Weights, path: str, weights: Weights) -> None:
    problems = [f"only in {first_path}: {name}" for name in first if name not in weights]
    problems += [f"only in {path}: {name}" for name in weights if name not in first]
    for name, weight in weights.items():
        if name in first and first[name].shape != weight.shape:
            problems.append(f"{name}: {tuple(first[name].shape)} and {tuple(weight.shape)}")
    raise_all(f"{path} is not the same model as {first_path}:", problems)
