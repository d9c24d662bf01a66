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

The omega_i of the recursion is never rounded. The model runs with the omega_i of its own precision, and
the LayerNorm after the site takes out most of what that rounding does; in the recursion the rounding of
every site would go into all later ones, and a bfloat16 profile of 100-100 drifted by 11 %.
"""

import contextlib
import math
from collections import OrderedDict

import torch

from ..errors import AdminError, raise_all
from ..residual import named_sites
from .data import Profile, SiteProfile, stack_of


class SiteRecorder:
    """Forward pre-hooks on the sites that apply the recursion while the pass goes on."""

    def __init__(self, keep):
        self.keep = keep  # stack -> T x B bool tensor of the positions that count, or None
        self.sites = OrderedDict()
        self._next_square = {}  # stack -> omega^2 of its next site

    def hook(self, name):
        def measure(site, inputs):
            branch, shortcut = inputs
            stack = stack_of(name)
            omega = math.sqrt(self._next_square.get(stack, 1.0))
            site.omega.fill_(omega)
            scaled = omega * shortcut.float()  # not site.omega, which half precision has rounded
            keep = self.keep.get(stack)
            branch_variance, shortcut_variance = torch.stack(
                [variance(branch, keep), variance(scaled, keep)]
            ).tolist()
            square = shortcut_variance + branch_variance
            if not (math.isfinite(square) and square > 0):
                raise AdminError(
                    f"profiling: the variance at {name} is {square} (branch {branch_variance}, "
                    f"shortcut {shortcut_variance}); the batch or the weights are not sound"
                )
            self._next_square[stack] = square
            self.sites[name] = SiteProfile(omega, branch_variance, shortcut_variance)

        return measure


def variance(x, keep=None):
    """Return the population variance of x (T x B x C) in float32, over the positions ``keep`` (T x B)."""
    x = x.float()
    return (x if keep is None else x[keep]).var(unbiased=False)


def profile_omega(model, sample, count_padding=False):
    """Measure omega with one forward pass, without gradients.

    Args:
        model: a Transformer whose residual sites are scaled (``--init-type adaptive*``), with
            fresh weights. It is left as it was: weights, omegas, mode and random state.
        sample: a fairseq batch, on the model's device; ``net_input`` is read.
        count_padding: measure over padding positions too, as the authors' code does.

    Returns:
        Profile with one entry per site, in forward order. Provenance is the caller's to fill.

    Raises:
        AdminError: if the model has no omegas, some site did not run, or a variance is not finite.

    The pass runs in training mode, so dropout draws from torch's generator: seed it for numbers
    that repeat. The one exception to "as it was": fairseq's quantisation noise (``--quant-noise-pq``)
    stays in the weights of every training pass, and so of this one.
    """
    sites = named_sites(model)
    unscaled = [name for name, site in sites.items() if site.omega is None]
    if unscaled or not sites:
        raise AdminError(
            "profiling needs a model with omegas: build it with --init-type adaptive-profiling"
        )

    keep = {} if count_padding else positions_that_count(model, sample)
    recorder = SiteRecorder(keep)
    devices = {p.device for p in model.parameters() if p.device.type == "cuda"}
    was_training = model.training
    with contextlib.ExitStack() as stack:
        stack.enter_context(torch.no_grad())
        stack.enter_context(torch.random.fork_rng(devices=list(devices)))
        stack.callback(restore_omegas, {site: site.omega.clone() for site in sites.values()})
        stack.callback(model.train, was_training)
        for name, site in sites.items():
            stack.callback(site.register_forward_pre_hook(recorder.hook(name)).remove)
        model.train()
        model(**sample["net_input"])

    raise_all(
        "profiling: these residual sites did not run:",
        [n for n in sites if n not in recorder.sites],
    )
    return Profile(recorder.sites)


@torch.no_grad()
def restore_omegas(saved):
    """Put back omegas: ``{site module: tensor (C,)}``."""
    for site, omega in saved.items():
        site.omega.copy_(omega)


def positions_that_count(model, sample):
    """Return ``{stack: T x B bool tensor}`` of the batch's tokens; no entry for a stack without padding."""
    net_input = sample["net_input"]
    tokens = {
        "encoder": net_input.get("src_tokens"),
        "decoder": net_input.get("prev_output_tokens"),
    }
    keep = {}
    for stack, ids in tokens.items():
        if ids is not None and hasattr(model, stack):
            real = ids.ne(getattr(model, stack).padding_idx)
            if not real.all():
                keep[stack] = real.t()
    return keep
