"""How each method makes a layer's residual sites and starts its weights: one function a method.

Beside the records of ``init_types`` this is all that tells the methods apart when a model is built.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import nn

from .closed_forms import deepnorm_scales
from .init_types import closed_form, method_of
from .residual import ConstantResidual, OmegaResidual, Residual, ReZeroResidual

Layer = Any  # one of fairseq's Transformer layers, which have no types

# starts a layer's branches, and returns what makes one of its sites
Equation = Callable[[Layer, Any, str], Callable[[], Residual]]
EQUATIONS: dict[str, Equation] = {}


def equation_of(*names: str) -> Callable[[Equation], Equation]:
    """Say that a function is the equation of the methods with these names."""

    def register(equation: Equation) -> Equation:
        EQUATIONS.update(dict.fromkeys(names, equation))
        return equation

    return register


def add_sites(layer: Layer, cfg: Any, stack: str, roles: Sequence[str]) -> None:
    """Give a layer its residual sites, and start its weights, as the init type says.

    Args:
        layer: one of fairseq's Transformer layers, just built.
        cfg: fairseq's ``TransformerConfig``, with the plugin's flags.
        stack: ``encoder`` or ``decoder``.
        roles: attributes that the sites become, in forward order.
    """
    # first: deepnet and looklinear start these weights in their own way, whatever this says
    if getattr(cfg, "xavier_ffn", False):
        _start_ffn(layer)
    if getattr(cfg, "zero_qkv_bias", False):
        _zero_qkv_biases(layer)
    make_site = EQUATIONS[method_of(cfg).name](layer, cfg, stack)
    for role in roles:
        setattr(layer, role, make_site())


@equation_of("default", "pre-ln")
def plain(layer: Layer, cfg: Any, stack: str) -> Callable[[], Residual]:
    """``f(x) + x``, and fairseq's own weights."""
    return Residual


@equation_of("adaptive", "adaptive-flat")
def admin(layer: Layer, cfg: Any, stack: str) -> Callable[[], Residual]:
    """``f(x) + omega * x``; omega is 1 until a profile or a checkpoint says what it is."""
    return lambda: OmegaResidual(layer.embed_dim)


@equation_of("analytic")
def analytic(layer: Layer, cfg: Any, stack: str) -> Callable[[], Residual]:
    """``f(x) + omega * x``, with one omega for all sites of a stack."""
    omega = closed_form(cfg, stack)
    if getattr(cfg, "analytic_constant", False):
        return lambda: ConstantResidual(omega)
    return lambda: OmegaResidual(layer.embed_dim, omega)


@equation_of("deepnet")
def deepnet(layer: Layer, cfg: Any, stack: str) -> Callable[[], Residual]:
    """``f(x) + alpha * x``: Xavier's weights, with gain 1 for q and k, and beta for the rest."""
    alpha, beta = deepnorm_scales(cfg.encoder_layers, cfg.decoder_layers)[stack]
    for attention in _attentions(layer):
        nn.init.xavier_uniform_(attention.q_proj.weight)
        nn.init.xavier_uniform_(attention.k_proj.weight)
        nn.init.xavier_uniform_(attention.v_proj.weight, gain=beta)
        nn.init.xavier_uniform_(attention.out_proj.weight, gain=beta)
    _start_ffn(layer, beta)
    return lambda: ConstantResidual(alpha)


@equation_of("rezero_postln")
def rezero_postln(layer: Layer, cfg: Any, stack: str) -> Callable[[], Residual]:
    """``x + w * f(x)`` with one w, 0 at first, for all sites of a layer."""
    layer.resweight = nn.Parameter(torch.zeros(1))
    return lambda: ReZeroResidual(layer.resweight)


@equation_of("rezero")
def rezero(layer: Layer, cfg: Any, stack: str) -> Callable[[], Residual]:
    """``x + w * f(x)`` in layers whose LayerNorms do nothing, and hold no parameters."""
    # a list, since the loop replaces children
    for name, module in list(layer.named_children()):
        if name.endswith("layer_norm") and module is not None:
            setattr(layer, name, nn.Identity())
    return rezero_postln(layer, cfg, stack)


@equation_of("looklinear")
@torch.no_grad()
def looklinear(layer: Layer, cfg: Any, stack: str) -> Callable[[], Residual]:
    """``f(x) + x``; the feed-forward branch starts linear (arXiv 1702.08591, section 4).

    fc1 holds [W; -W] and fc2 [V, -V], so that V relu(Wx) - V relu(-Wx) = VWx; it holds for gelu
    too. W and V are halves of Xavier's matrices, as in the authors' code.
    """
    _start_ffn(layer)
    # _start_ffn left biases of 0: others would spoil the mirror
    half = layer.fc1.weight.size(0) // 2
    layer.fc1.weight[half:] = -layer.fc1.weight[:half]
    layer.fc2.weight[:, half:] = -layer.fc2.weight[:, :half]
    return Residual


def _attentions(layer: Layer) -> list[Any]:
    found = (layer.self_attn, getattr(layer, "encoder_attn", None))
    return [attention for attention in found if attention is not None]


def _zero_qkv_biases(layer: Layer) -> None:
    """Start the biases of q, k and v at 0.

    So does the authors' code, a fork of fairseq 0.8, which has q, k and v in one matrix. Since 0.9
    they are three nn.Linear, whose biases fairseq leaves as torch draws them, uniform within 1 /
    sqrt(C). No random number is drawn here: all other weights of a seed stay the same.
    """
    for attention in _attentions(layer):
        for linear in (attention.q_proj, attention.k_proj, attention.v_proj):
            if linear.bias is not None:
                nn.init.zeros_(linear.bias)


def _start_ffn(layer: Layer, gain: float = 1.0) -> None:
    """Start the feed-forward branch with Xavier's uniform weights and zero biases.

    So do fairseq 0.9 and the authors' code; biases of q, k and v are :func:`_zero_qkv_biases`'.
    Since 0.10 fairseq leaves these weights to nn.Linear,
    which starts them smaller: for dims 512 and 2048 by 1.1 in fc1 and by 2.2 in fc2. The branch
    then depends on its input less than half as much, and the papers' figures come out only with
    Xavier's.
    """
    for linear in (layer.fc1, layer.fc2):
        nn.init.xavier_uniform_(linear.weight, gain=gain)
        nn.init.zeros_(linear.bias)
