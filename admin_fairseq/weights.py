"""What keeps the weights of a state dict from being a model's: names, shapes, and numbers that are not finite."""

import math
from typing import Dict, List

import torch

from .errors import AdminError
from .init_types import SCALES, methods_that_store

Weights = Dict[str, torch.Tensor]
IGNORED = (
    "_float_tensor",
    "embed_positions.weights",
)  # made anew by every model; older releases of fairseq stored them


def non_finite(weights: Weights) -> List[str]:
    """Return the names of weights that hold NaN or infinity."""
    return [
        name
        for name, weight in weights.items()
        if torch.is_tensor(weight)
        and not name.endswith(IGNORED)
        and not is_finite(weight)  # _float_tensor holds anything
    ]


def is_finite(weight: torch.Tensor) -> bool:
    """Whether a tensor holds neither NaN nor infinity.

    Any of these makes the sum NaN or infinite too, and a sum takes a tenth of the time of looking at each element;
    only where the sum itself overflows, that is done.
    """
    if not weight.is_floating_point():
        return True
    total = weight.sum(dtype=torch.float64 if weight.dtype == torch.float64 else torch.float32)
    return bool(torch.isfinite(total)) or bool(torch.isfinite(weight).all())


def differences(ours: Weights, theirs: Weights) -> List[str]:
    """Return what keeps the weights ``theirs`` from being loaded, one line each; the gravest first."""
    known = {name: tuple(value.shape) for name, value in ours.items() if "version" not in name}
    given = {name: tuple(value.shape) for name, value in theirs.items() if "version" not in name}
    problems = [
        f"{name} is missing" for name in known if name not in given and not name.endswith(IGNORED)
    ]
    problems += [
        f"{name} is not the model's"
        for name in given
        if name not in known and not name.endswith(IGNORED)
    ]
    for name in known:
        if name in given and known[name] != given[name]:
            hint = "; the data-bin's dictionary is another" if "embed_tokens" in name else ""
            problems.append(f"{name} is {given[name]}, and would have to be {known[name]}{hint}")
    return problems if len(problems) < 10 else problems[:9] + [f"... and {len(problems) - 9} more"]


def depths(weights: Weights) -> str:
    """Return the depths of encoder and decoder that a state dict has, such as ``12-6``."""
    found = []
    for stack in ("encoder", "decoder"):
        layers = {name.split(".")[2] for name in weights if name.startswith(f"{stack}.layers.")}
        found.append(str(len(layers)))
    return "-".join(found)


def check_scales(model: torch.nn.Module, theirs: Weights) -> None:
    """Refuse weights that were trained with sites of another kind: most would load, and compute
    something else.

    Raises:
        AdminError: naming both kinds.
    """
    ours = scales_in(model.state_dict())
    trained = scales_in(theirs)
    if kinds_of(trained) != kinds_of(ours):
        raise AdminError(
            f"the checkpoint was trained with --init-type {kinds_of(trained)}, and this model is of "
            f"--init-type {kinds_of(ours)}: use the init type of the training; or start anew, with "
            "another --save-dir and without --finetune-from-model and --restore-file"
        )
    for name, value in ours.items():
        given = trained.get(name)
        if given is None or not name.endswith(".alpha"):
            continue
        if not math.isclose(given, value, rel_tol=0.01):
            raise AdminError(
                f"the checkpoint's {name} is {float(given):.4g}, and this model's is "
                f"{float(value):.4g}: use the --init-type, --analytic-output-change and depth of "
                "the training"
            )


def scales_in(weights: Weights) -> Weights:
    """Return what a state dict holds for residual sites."""
    return {name: value for name, value in weights.items() if name.rpartition(".")[2] in SCALES}


def kinds_of(scales: Weights) -> str:
    """Return the init types that a state dict with these scales can be of, as text."""
    stored = {name.rpartition(".")[2] for name in scales}
    kinds = [methods_that_store(scale) for scale in SCALES if scale in stored]
    return " and ".join(kinds) or methods_that_store("")
