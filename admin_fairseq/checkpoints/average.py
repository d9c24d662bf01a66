"""Average checkpoints: the mean of their weights (omegas included). fairseq's script is in no wheel.

Averaging the last epochs is part of the papers' recipes. Average before folding, not after.
"""

import logging
import os
import re

import torch

from ..errors import AdminError, raise_all
from ..weights import differences
from . import check_finite, load_checkpoint, save_checkpoint

logger = logging.getLogger(__name__)
EMA = ("ema", "ema_fp32_params")  # where fairseq keeps the EMA in extra_state


def find_checkpoints(folder, count, by_updates=False, upper_bound=None, suffix=None):
    """Return the last ``count`` checkpoints of a ``--save-dir``, newest first.

    Args:
        folder: the ``--save-dir``.
        count: how many.
        by_updates: take ``checkpoint_EPOCH_UPDATES.pt`` by updates, not ``checkpointEPOCH.pt`` by epoch.
        upper_bound: ignore those after this epoch, or update.
        suffix: the training's ``--checkpoint-suffix``; None is the only one that is there.

    Raises:
        AdminError: if there are fewer, or checkpoints of several suffixes and none without.
    """
    pattern = re.compile(
        r"checkpoint_\d+_(\d+)(\D.*)?\.pt" if by_updates else r"checkpoint(\d+)(\D.*)?\.pt"
    )
    if not os.path.isdir(folder):
        raise AdminError(f"--inputs {folder}: no such folder")
    by_suffix = {}
    for name in os.listdir(folder):
        match = pattern.fullmatch(name)
        if match and (upper_bound is None or int(match[1]) <= upper_bound):
            by_suffix.setdefault(match[2] or "", []).append(
                (int(match[1]), os.path.join(folder, name))
            )
    if suffix is None and "" not in by_suffix and len(by_suffix) > 1:
        raise AdminError(
            f"--inputs {folder}: holds checkpoints of several trainings; name one with --checkpoint-suffix: "
            + ", ".join(sorted(by_suffix))
        )
    if suffix is None:
        suffix = "" if "" in by_suffix or not by_suffix else next(iter(by_suffix))
    found = by_suffix.get(suffix, [])
    if len(found) < count:
        kind = "update" if by_updates else "epoch"
        raise AdminError(
            f"--inputs {folder}: {count} {kind} checkpoints wanted, {len(found)} found; ask for fewer, or "
            "train with --keep-last-epochs or --keep-interval-updates large enough"
        )
    return [path for _, path in sorted(found, reverse=True)[:count]]


def average(paths, ema=False):
    """Return a checkpoint whose weights are the mean of those in ``paths``.

    Means are computed in float64. Half-precision weights come out as float32. All else is that of
    the first checkpoint, without what belongs to that checkpoint's weights alone: its optimizer's state, and its EMA.

    Args:
        ema: average the exponential moving averages that ``--store-ema`` keeps, instead of the weights.

    Raises:
        AdminError: if a file cannot be read, has no EMA, or the models differ.
    """
    result, sums, dtypes = None, {}, {}
    for path in paths:
        state = load_checkpoint(path)
        weights = ema_weights(state, path) if ema else state["model"]
        if result is None:
            result = state
            dtypes = {name: weight.dtype for name, weight in weights.items()}
            sums = {name: weight.double() for name, weight in weights.items()}
            continue
        _check_same_model(paths[0], sums, path, weights)
        for name, weight in weights.items():
            sums[name] += weight.double()
    halves = (torch.float16, torch.bfloat16)
    result["model"] = {
        name: (total / len(paths)).to(torch.float32 if dtypes[name] in halves else dtypes[name])
        for name, total in sums.items()
    }
    result.pop("last_optimizer_state", None)
    for name in EMA:
        (result.get("extra_state") or {}).pop(name, None)
    return result


def ema_weights(state, path):
    """Return the EMA that a checkpoint of ``--store-ema`` holds: the float32 one, where there is one.

    Raises:
        AdminError: if there is none, it lacks weights of the model, or some are not finite.
    """
    kept = state.get("extra_state") or {}
    found = kept.get("ema_fp32_params") or kept.get("ema")
    if not found:
        raise AdminError(f"{path}: holds no EMA; train with --store-ema, or average without --ema")
    weights = {
        **{name: weight for name, weight in state["model"].items() if "version" in name},
        **found,
    }
    raise_all(
        f"{path}: its EMA is not of its model (fairseq's EMA loses the final LayerNorms of Pre-LN models where this plugin "
        "is not there); average without --ema:",
        differences(state["model"], weights),
    )
    check_finite(weights, f"{path}, its EMA")
    return weights


def _check_same_model(first_path, first, path, weights):
    problems = [f"only in {first_path}: {name}" for name in first if name not in weights]
    problems += [f"only in {path}: {name}" for name in weights if name not in first]
    problems += [
        f"{name}: {tuple(first[name].shape)} and {tuple(weights[name].shape)}"
        for name in first
        if name in weights and first[name].shape != weights[name].shape
    ]
    raise_all(f"{path} is not the same model as {first_path}:", problems)


def average_to_file(paths, output, ema=False):
    """Average ``paths`` (their EMAs, if ``ema``) and write the result to ``output``.

    Raises:
        AdminError: if ``output`` is one of the inputs, or anything cannot be read or written.
    """
    if os.path.realpath(output) in {os.path.realpath(path) for path in paths}:
        raise AdminError(f"--output {output}: is one of the inputs, and would be overwritten")
    if not os.path.isdir(os.path.dirname(os.path.abspath(output))):
        raise AdminError(f"--output {output}: its folder does not exist")
    for path in paths:
        logger.info("averaging %s", path)
    mean = average(paths, ema)
    save_checkpoint(mean, output)
    logger.info("average of %d checkpoints written to %s", len(paths), output)
