"""Looking at residual sites: what enters them in a forward pass, and which weights are theirs."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import AdminError
from ..profile.measure import positions_that_count
from ..residual import Residual
from ..sites import STACKS, SiteName, branch_matrices, named_sites, stack_of

# what is kept of every site: a 100-100 model of C = 512 then takes 4 GB in float64, however large
# its batch
MAX_POSITIONS = 1024


@dataclass(frozen=True, eq=False)
class Site:
    """A residual site with its surroundings.

    Attributes:
        name: module path, ``encoder.layers.3.ffn_residual``.
        stack: ``encoder`` or ``decoder``.
        layer: number of its layer, from 0.
        residual: the module.
        matrices: the weight matrices of its branch: no biases, no LayerNorms.
        norm_after: the LayerNorm that reads the sum, or None (Pre-LN, ReZero).
    """

    name: str
    stack: str
    layer: int
    residual: Residual
    matrices: list[Tensor]
    norm_after: nn.Module | None


def sites_of(model: nn.Module) -> dict[str, list[Site]]:
    """Return ``{stack: sites}`` of a model, in forward order; both stacks have an entry.

    Raises:
        AdminError: if a site is not one of fairseq's Transformer layers.
    """
    stacks: dict[str, list[Site]] = {stack: [] for stack in STACKS}
    for path, residual in named_sites(model).items():
        try:
            name = SiteName.parse(path)
        except ValueError as error:
            raise AdminError(f"analyze: {error} of fairseq's Transformer layers") from None
        layer = model.get_submodule(name.layer_path)
        norm = model.get_submodule(name.layer_norm)
        is_before = bool(layer.normalize_before)
        site = Site(
            name=path,
            stack=name.stack,
            layer=name.layer,
            residual=residual,
            matrices=branch_matrices(layer, name.role),
            norm_after=None if is_before or isinstance(norm, nn.Identity) else norm,
        )
        stacks[name.stack].append(site)
    return stacks


@dataclass
class Pass:
    """What a forward pass left behind; positions are those of real tokens, P in all.

    Attributes:
        inputs: site name -> (branch, shortcut), each at most MAX_POSITIONS x C, before their
            scales; only of sites that ran.
        largest: site name -> the largest magnitude of its branch and of its shortcut, over all
            positions; NaN if one is not finite.
        sums: stack -> what its last site put out, at most MAX_POSITIONS x C, after its own
            LayerNorm if it has one, before that of the stack.
        outputs: stack -> its last output, P x C.
    """

    inputs: dict[str, tuple[Tensor, Tensor]] = field(default_factory=dict)
    largest: dict[str, tuple[float, float]] = field(default_factory=dict)
    sums: dict[str, Tensor] = field(default_factory=dict)
    outputs: dict[str, Tensor] = field(default_factory=dict)


def run_forward(
    model: Any,
    sample: Mapping[str, Any],
    dropout: bool = False,
    seed: int = 1,
    with_inputs: bool = True,
) -> Pass:
    """Run a forward pass without gradients and return what it left behind.

    Args:
        model: in float64; its mode is restored.
        sample: a fairseq batch.
        dropout: run in training mode, with the masks of ``seed``.
        seed: of the masks.
        with_inputs: keep what enters the sites.
    """
    keep = positions_that_count(model, sample)
    found = Pass()
    with contextlib.ExitStack() as stack:
        stack.enter_context(torch.no_grad())
        stack.enter_context(dropout_mode(model, dropout, seed))
        if with_inputs:
            _watch_sites(model, found, keep, stack)
        watch_encoder = model.encoder.register_forward_hook(_encoder_output_hook(found, keep))
        stack.callback(watch_encoder.remove)
        # no probe looks at logits
        features, _ = model(**sample["net_input"], features_only=True)
        found.outputs["decoder"] = select(keep, "decoder", features.transpose(0, 1))
    return found


def _watch_sites(
    model: Any, found: Pass, keep: Mapping[str, Tensor], stack: contextlib.ExitStack
) -> None:
    """Have what enters the sites, and the stacks' last sums, kept until ``stack`` is closed."""
    for name, site in named_sites(model).items():
        stack.callback(site.register_forward_pre_hook(_inputs_hook(found, keep, name)).remove)
    for name in STACKS:
        layers = getattr(model, name).layers
        if len(layers):
            stack.callback(layers[-1].register_forward_hook(_sum_hook(found, keep, name)).remove)


def _inputs_hook(
    found: Pass, keep: Mapping[str, Tensor], name: str
) -> Callable[[nn.Module, tuple[Tensor, Tensor]], None]:
    def hook(site: nn.Module, inputs: tuple[Tensor, Tensor]) -> None:
        branch, shortcut = (select(keep, stack_of(name), x) for x in inputs)
        found.inputs[name] = (_thinned(branch), _thinned(shortcut))
        found.largest[name] = (_magnitude(branch), _magnitude(shortcut))

    return hook


def _sum_hook(
    found: Pass, keep: Mapping[str, Tensor], stack: str
) -> Callable[[nn.Module, Any, Any], None]:
    def hook(layer: nn.Module, inputs: Any, output: Any) -> None:
        x = output[0] if isinstance(output, tuple) else output
        found.sums[stack] = _thinned(select(keep, stack, x))

    return hook


def _encoder_output_hook(
    found: Pass, keep: Mapping[str, Tensor]
) -> Callable[[nn.Module, Any, Any], None]:
    def hook(encoder: nn.Module, inputs: Any, output: Any) -> None:
        found.outputs["encoder"] = select(keep, "encoder", output["encoder_out"][0])

    return hook


def select(keep: Mapping[str, Tensor], stack: str, x: Tensor) -> Tensor:
    """Return x at the positions of real tokens: T x B x C -> P x C."""
    x = x.detach()
    return x[keep[stack]] if stack in keep else x.reshape(-1, x.size(-1))


def _thinned(x: Tensor) -> Tensor:
    """Return at most MAX_POSITIONS of the positions, evenly spaced; P x C."""
    if len(x) <= MAX_POSITIONS:
        return x
    # evenly over time and batch: the first ones would all be beginnings of sentences
    return x[torch.linspace(0, len(x) - 1, MAX_POSITIONS, device=x.device).long()]


def _magnitude(x: Tensor) -> float:
    """Return the largest absolute value, or NaN if something is not finite."""
    # max() hands NaN on
    largest = float(x.abs().max())
    return largest if math.isfinite(largest) else math.nan


@contextlib.contextmanager
def dropout_mode(model: nn.Module, dropout: bool, seed: int) -> Iterator[None]:
    """Put the model into evaluation mode, or with ``dropout`` into training mode.

    Masks are those of ``seed``; mode and random state are restored.
    """
    were_training = {module: module.training for module in model.modules()}
    devices = {p.device for p in model.parameters() if p.device.type == "cuda"}
    model.train(dropout)
    try:
        # those in use: fork_rng would set up every GPU of the machine
        with torch.random.fork_rng(devices=list(devices)):
            torch.manual_seed(seed)
            yield
    finally:
        for module, was_training in were_training.items():
            module.training = was_training  # parts may differ from the whole


def check_finite(found: Pass, name: str) -> None:
    """Refuse to go on with NaN or infinity, and say where it began.

    Args:
        found: a forward pass.
        name: of the analysis, for the message.

    Raises:
        AdminError: naming the first site.
    """
    where = first_non_finite(found)
    if where:
        raise AdminError(
            f"{name}: the forward pass is not finite from {where} on; "
            "'admin-fairseq analyze stability' says more"
        )


def first_non_finite(found: Pass) -> str | None:
    """Return the first site of a pass that gets or puts out NaN or infinity, in words, or None."""
    for name, largest in found.largest.items():
        for what, value in zip(("branch", "shortcut"), largest):
            if math.isnan(value):
                return f"{name} ({what})"
    for stack, x in found.outputs.items():
        if not torch.isfinite(x).all():
            return f"the {stack}'s output"
    return None
