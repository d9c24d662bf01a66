"""What keeps the weights of a state dict from being a model's.

Names, shapes, numbers that are not finite, and residual sites of another method.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch

from .errors import AdminError, first_of
from .init_types import SCALES, methods_that_store

Weights = dict[str, torch.Tensor]

# made anew by every model; older releases of fairseq stored them. _float_tensor holds anything
_IGNORED = ("_float_tensor", "embed_positions.weights")


def non_finite(weights: Mapping[str, torch.Tensor]) -> list[str]:
    """Return the names of weights that hold NaN or infinity."""
    found: list[str] = []
    for name, weight in weights.items():
        if name.endswith(_IGNORED) or not torch.is_tensor(weight):
            continue
        if not _is_finite(weight):
            found.append(name)
    return found


def _is_finite(weight: torch.Tensor) -> bool:
    """Whether a tensor holds neither NaN nor infinity.

    Any of these makes the sum NaN or infinite too, and a sum takes a tenth of the time of looking
    at each element; only where the sum itself overflows, that is done.
    """
    if not weight.is_floating_point():
        return True
    # float16 would overflow in its own type long before anything is wrong
    total = weight.sum(dtype=torch.float64 if weight.dtype == torch.float64 else torch.float32)
    return bool(torch.isfinite(total)) or bool(torch.isfinite(weight).all())


def differences(ours: Mapping[str, torch.Tensor], theirs: Mapping[str, torch.Tensor]) -> list[str]:
    """Return what keeps the weights ``theirs`` from being loaded, one line each.

    The gravest come first.
    """
    known, given = _shapes(ours), _shapes(theirs)
    missing, foreign, misshapen = [], [], []
    for name, shape in known.items():
        if name not in given:
            if not name.endswith(_IGNORED):
                missing.append(f"{name} is missing")
        elif given[name] != shape:
            hint = "; the data-bin's dictionary is another" if "embed_tokens" in name else ""
            misshapen.append(f"{name} is {given[name]}, and must be {shape}{hint}")
    for name in given:
        if name not in known and not name.endswith(_IGNORED):
            foreign.append(f"{name} is not the model's")
    return first_of(missing + foreign + misshapen)


def _shapes(weights: Mapping[str, torch.Tensor]) -> dict[str, tuple[int, ...]]:
    """Return the shape of each weight, without fairseq's counters of versions."""
    # fairseq adds them while it upgrades old weights, so that one side may lack them
    return {name: tuple(value.shape) for name, value in weights.items() if "version" not in name}


def depths(weights: Mapping[str, torch.Tensor]) -> str:
    """Return the depths of encoder and decoder that a state dict has, such as ``12-6``."""
    found = []
    for stack in ("encoder", "decoder"):
        layers = {name.split(".")[2] for name in weights if name.startswith(f"{stack}.layers.")}
        found.append(str(len(layers)))
    return "-".join(found)


def check_scales(ours: Mapping[str, torch.Tensor], theirs: Mapping[str, torch.Tensor]) -> None:
    """Refuse weights that were trained with sites of another kind than the model's, ``ours``.

    Most would load, and compute something else.

    Raises:
        AdminError: naming both kinds.
    """
    built, trained = _scales_in(ours), _scales_in(theirs)
    kind, other_kind = _kinds_of(built), _kinds_of(trained)
    if kind != other_kind:
        raise AdminError(
            f"the checkpoint was trained with --init-type {other_kind}, and this model is of "
            f"--init-type {kind}: use the init type of the training; or start anew, with another "
            "--save-dir and without --finetune-from-model and --restore-file"
        )
    for name, value in built.items():
        given = trained.get(name)
        # omega and resweight are learned: any value is right
        if given is None or not name.endswith(".alpha"):
            continue
        # a checkpoint in bfloat16 holds a rounded alpha, by up to 0.4 %
        if not math.isclose(given, value, rel_tol=0.01):
            raise AdminError(
                f"the checkpoint's {name} is {float(given):.4g}, and this model's is "
                f"{float(value):.4g}: use the --init-type, --analytic-output-change and depth of "
                "the training"
            )


def _scales_in(weights: Mapping[str, torch.Tensor]) -> Weights:
    """Return what a state dict holds for residual sites."""
    return {name: value for name, value in weights.items() if name.rpartition(".")[2] in SCALES}


def _kinds_of(scales: Weights) -> str:
    """Return the init types that a state dict with these scales can be of, as text."""
    stored = {name.rpartition(".")[2] for name in scales}
    # by what is stored: a state dict comes without flags
    kinds = [methods_that_store(scale) for scale in SCALES if scale in stored]
    return " and ".join(kinds) or methods_that_store("")
