"""Profiling: one forward pass over one batch measures what omega has to be.

Admin (Liu et al., EMNLP 2020, section 4.3) sets omega from the output variances of the branches.
In forward order through a stack, and separately for encoder and decoder,

    omega_1 = 1
    omega_{i+1}^2 = Var[ omega_i * x_{i-1} ] + Var[ f_i(x_{i-1}) ]

so that omega_i^2 is about Var[x_0] + sum_{j<i} Var[f_j]. The paper's formula has the sum alone;
the authors' code, which made the published numbers, has this recursion, and so do we.

Var is the population variance over all T x B x C elements, in float32; f_i is taken after the
branch's dropout, in training mode; omega_i is already in effect when the sites after it are
measured. The authors' code counts padding positions; we leave them out unless asked.

The omega_i of the recursion is never rounded. The model runs with the omega_i of its own precision,
and the LayerNorm after the site takes out most of what that rounding does; in the recursion the
rounding of every site would go into all later ones, and a bfloat16 profile of 100-100 drifted by
11 %.
"""

import contextlib
import logging
import math
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Optional, Union

import torch
from torch import Tensor, nn

from ..errors import AdminError, raise_all
from ..sites import named_omegas, named_sites, stack_of
from .data import Profile, SiteProfile

logger = logging.getLogger(__name__)

Hook = Callable[[nn.Module, tuple[Tensor, ...], dict[str, Tensor]], None]
Padding = Union[Tensor, Mapping[str, Tensor]]


def profile_omega(
    model: nn.Module,
    sample: Any,
    count_padding: bool = False,
    padding: Optional[Padding] = None,
) -> Profile:
    """Measure omega with one forward pass, without gradients.

    The pass runs in training mode, so dropout draws from torch's generator: seed it for numbers
    that repeat. The model is left as it was: weights, omegas, buffers, modes and random state. The
    one exception: fairseq's quantisation noise (``--quant-noise-pq``) stays in the weights of
    every training pass, and so of this one.

    Args:
        model: has residual sites with omegas, and fresh weights: a model of this plugin's
            (``--init-type adaptive*``), or any module with ``OmegaResidual`` in it. A *stack* is
            the part of it that one sum of variances runs through, named by the first part of its
            sites' paths: ``encoder`` and ``decoder``, or ``layers`` for ``layers.0.ffn``; see
            ``sites.stack_of``.
        sample: a batch, on the model's device. A fairseq batch, of which ``net_input`` is read;
            else what the model is called with: a tensor, a tuple or list of positional
            arguments, or a dictionary of named ones.
        count_padding: measure over padding positions too, as the authors' code does.
        padding: True where a position is padding, and does not count. The shape is that of what the
            sites add, without channels: B x T in a model that computes B x T x C, T x B in one
            that computes T x B x C. One mask for all stacks, or ``{stack: mask}``. With a fairseq
            batch it is known; with any other and no ``padding``, all positions count.

    Returns:
        Profile with one entry per site, in forward order. Provenance is the caller's to fill.

    Raises:
        AdminError: if the model has no omegas, a site did not run once, a variance is not finite,
            or ``padding`` does not fit.
    """
    sites, omegas = named_sites(model), named_omegas(model)
    if not sites or len(omegas) < len(sites):
        raise AdminError(
            "profiling needs a model with omegas: build it with --init-type adaptive-profiling, "
            "or give a module of your own OmegaResidual sites"
        )
    arguments, named = _arguments_of(sample)
    recorder = SiteRecorder(_masks(model, sample, sites, count_padding, padding))
    # those in use: fork_rng would set up every GPU of the machine
    devices = {p.device for p in model.parameters() if p.device.type == "cuda"}
    # module by module: model.train() below sets all, and a part may be in evaluation mode
    modes = {module: module.training for module in model.modules()}
    tensors = [*omegas.values(), *model.buffers()]  # a BatchNorm's buffers follow every pass
    with contextlib.ExitStack() as stack:
        stack.enter_context(torch.no_grad())
        stack.enter_context(torch.random.fork_rng(devices=list(devices)))
        # pushed before the hooks, so that it runs after they are gone
        stack.callback(_restore, [(tensor, tensor.clone()) for tensor in tensors], modes)
        for name, site in sites.items():
            hook = recorder.hook(name, omegas[name])
            # with_kwargs: models of one's own may call their sites with named arguments
            stack.callback(site.register_forward_pre_hook(hook, with_kwargs=True).remove)
        model.train()
        model(*arguments, **named)

    silent = [name for name in sites if name not in recorder.sites]
    raise_all("profiling: these residual sites did not run:", silent)
    return Profile(recorder.sites)


class SiteRecorder:
    """Forward pre-hooks on the sites that apply the recursion while the pass goes on.

    Args:
        keep: stack -> bool tensor of the positions that count; a stack without one has no padding.
    """

    def __init__(self, keep: Mapping[str, Tensor]) -> None:
        self.keep = keep
        self.sites: OrderedDict[str, SiteProfile] = OrderedDict()
        self._next_square: dict[str, float] = {}  # stack -> omega^2 of its next site

    def hook(self, name: str, weight: Tensor) -> Hook:
        """Return the hook of the site ``name``, whose omega is ``weight``, (C,)."""

        def measure(site: nn.Module, inputs: tuple[Tensor, ...], named: dict[str, Tensor]) -> None:
            given = dict(zip(("branch", "shortcut"), inputs), **named)
            self._measure(name, weight, given["branch"], given["shortcut"])

        return measure

    def _measure(self, name: str, weight: Tensor, branch: Tensor, shortcut: Tensor) -> None:
        if name in self.sites:
            raise AdminError(
                f"profiling: the residual site {name} runs more than once in a forward pass; "
                "give each connection a site of its own"
            )
        stack = stack_of(name)
        omega = math.sqrt(self._next_square.get(stack, 1.0))
        # in a pre-hook: this site's sum, and so all sites after it, are computed with it
        weight.fill_(omega)
        scaled = omega * shortcut.float()  # not weight, which half precision has rounded
        keep = self.keep.get(stack)
        if keep is not None:
            keep = _fitting(keep, branch, name)
        # one transfer from the device for both
        variances = torch.stack([variance(branch, keep), variance(scaled, keep)])
        branch_variance, shortcut_variance = variances.tolist()
        square = shortcut_variance + branch_variance
        if not (math.isfinite(square) and square > 0):
            raise AdminError(
                f"profiling: the variance at {name} is {square} (branch {branch_variance}, "
                f"shortcut {shortcut_variance}); the batch or the weights are not sound"
            )
        self._next_square[stack] = square
        self.sites[name] = SiteProfile(omega, branch_variance, shortcut_variance)


def variance(x: Tensor, keep: Optional[Tensor] = None) -> Tensor:
    """Return the population variance of ``x`` in float32, a scalar.

    Args:
        x: T x B x C, or any shape that ends in channels.
        keep: bool, the shape of ``x`` without channels: the positions that count.
    """
    x = x.float()
    if keep is not None:
        x = x[keep]
    return x.var(unbiased=False)


def positions_that_count(model: nn.Module, sample: Mapping[str, Any]) -> dict[str, Tensor]:
    """Return ``{stack: T x B bool tensor}``, True at the tokens of a fairseq batch.

    A stack without padding has no entry.
    """
    net_input = sample["net_input"]
    inputs = {
        "encoder": net_input.get("src_tokens"),
        "decoder": net_input.get("prev_output_tokens"),
    }
    keep = {}
    for stack, ids in inputs.items():
        padding_idx = getattr(getattr(model, stack, None), "padding_idx", None)
        if ids is None or padding_idx is None:
            continue
        real = ids.ne(padding_idx)
        # x[keep] copies, which a batch without padding need not pay for
        if not real.all():
            # fairseq's batches are B x T, and what sites get is T x B x C
            keep[stack] = real.t()
    return keep


def _arguments_of(sample: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Return the positional and the named arguments that a model is called with for a batch."""
    if _is_fairseq_batch(sample):
        return (), dict(sample["net_input"])
    if isinstance(sample, Mapping):
        return (), dict(sample)
    if isinstance(sample, (tuple, list)):
        return tuple(sample), {}
    return (sample,), {}


def _is_fairseq_batch(sample: Any) -> bool:
    return isinstance(sample, Mapping) and "net_input" in sample


def _masks(
    model: nn.Module,
    sample: Any,
    site_names: Iterable[str],
    count_padding: bool,
    padding: Optional[Padding],
) -> dict[str, Tensor]:
    """Return ``{stack: bool tensor}``, True at the positions that count; no entry where all do."""
    if padding is not None:
        if count_padding:
            raise AdminError("profiling: give either count_padding or padding")
        return _unpadded(padding, site_names)
    if count_padding:
        return {}
    if _is_fairseq_batch(sample):
        return positions_that_count(model, sample)
    logger.info("profiling: no padding was given, so all positions of the batch count")
    return {}


def _unpadded(padding: Padding, site_names: Iterable[str]) -> dict[str, Tensor]:
    stacks = list(dict.fromkeys(stack_of(name) for name in site_names))
    masks = padding if isinstance(padding, Mapping) else dict.fromkeys(stacks, padding)
    problems = []
    for stack, mask in masks.items():
        if stack not in stacks:
            problems.append(f"{stack} is not a stack of the model, which has {', '.join(stacks)}")
        if not (torch.is_tensor(mask) and mask.dtype == torch.bool):
            problems.append(f"the mask of {stack} must be a bool tensor, True where padding is")
    raise_all("profiling: padding does not fit the model:", problems)
    return {stack: ~mask for stack, mask in masks.items()}


def _fitting(keep: Tensor, branch: Tensor, name: str) -> Tensor:
    """Return a mask on the branch's device.

    Raises:
        AdminError: if it is not of the branch's shape without channels.
    """
    if keep.shape != branch.shape[:-1]:
        raise AdminError(
            f"profiling: the padding mask is {_shape(keep)}, but what {name} adds is "
            f"{_shape(branch)}, so the mask must be {_shape(branch[..., 0])}"
        )
    return keep.to(branch.device)


def _shape(x: Tensor) -> str:
    return " x ".join(str(size) for size in x.shape)


@torch.no_grad()
def _restore(saved: Iterable[tuple[Tensor, Tensor]], modes: Mapping[nn.Module, bool]) -> None:
    """Put back the values of tensors, and whether each module is in training mode."""
    for tensor, value in saved:
        tensor.copy_(value)
    for module, training in modes.items():
        module.training = training
