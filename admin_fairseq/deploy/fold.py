"""Fold: rewrite a trained Admin model as a stock Post-LN Transformer with the same outputs.

The paper (Liu et al., EMNLP 2020, section 4.3) says that omega can be taken into the other weights;
this is how. In a stack with residual sites 1..n, x_i = LN_i( f_i(x_{i-1}) + omega_i * x_{i-1} ).
Let x_{i-1} come scaled by s_{i-1} = omega_i, so that the shortcut needs no scale of its own:

- LN_i puts out s_i * x_i when its weight and bias are multiplied by s_i = omega_{i+1} (s_n = 1);
- whatever reads x_{i-1} in branch i divides its input columns by s_{i-1}: the self-attention's q, k
  and v; of the cross-attention q only, since k and v read the encoder's output; fc1. Biases stay as
  they are.

No LayerNorm precedes the first site, so that s_0 = omega_1 takes one of three routes:

    a   into the LayerNorm of the embedding (``--layernorm-embedding``): no new parameters
    b   omega_1 is all ones (``--freeze-first-omega``, or no omega at all): nothing to do
    c   into copies of its own: an embedding that is no longer tied, and a learned table of
        positions

The input of every LayerNorm is what it was, so this is exact but for rounding. It is computed in
float64.
"""

import copy
from argparse import Namespace
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from fairseq.models.transformer import TransformerModel
from fairseq.modules import SinusoidalPositionalEmbedding

from ..errors import AdminError
from ..init_types import method_of
from ..sites import STACKS, SiteName, stack_sites
from ..weights import Weights, non_finite
from .foldable import check_foldable, is_scale
from .stock import build_stock, count_tables, make_stock_flags

_PADDING = 1  # index of <pad> in every fairseq dictionary
_SMALLEST = 1e-8  # what an omega of exactly 0 becomes: columns are divided by it


@dataclass
class Folded:
    """A stock model, and how it came about.

    Attributes:
        args: flags of ``--arch transformer``.
        weights: name -> tensor, of the dtypes that were given.
        routes: stack -> ``a``, ``b`` or ``c`` (see the module).
        zeros: sites that had omegas of exactly 0 -> how many.
        scales: stack -> [s_0, ..., s_n], each a float64 tensor (C,).
        new_parameters: how many the stock model has more, without the omegas' own.
    """

    args: Namespace
    weights: Weights = field(default_factory=dict)
    routes: dict[str, str] = field(default_factory=dict)
    zeros: dict[str, int] = field(default_factory=dict)
    scales: dict[str, list[torch.Tensor]] = field(default_factory=dict)
    new_parameters: int = 0


@torch.no_grad()
def fold(model: TransformerModel) -> TransformerModel:
    """Return a stock fairseq ``transformer`` with the outputs of ``model``, which is left as it is.

    Args:
        model: an ``admin_transformer``. The result has its dictionaries, dtype, device and mode.

    Raises:
        AdminError: if the model cannot be folded; it lists every reason.
    """
    if not hasattr(model, "flags"):
        raise AdminError(
            f"fold() takes an admin_transformer, not a {type(model).__name__} (unwrap it first)"
        )
    folded = fold_state(model.state_dict(), model.flags)
    stock = build_stock(folded.args, model.encoder.dictionary, model.decoder.dictionary)
    stock.to(next(model.parameters()))  # first its dtype: loading would round
    stock.load_state_dict(folded.weights)
    return stock.train(model.training)


@torch.no_grad()
def fold_state(state: Weights, args: Namespace) -> Folded:
    """Fold the weights of a checkpoint; ``state`` and ``args`` are left as they are.

    Args:
        state: name -> tensor, as ``model.state_dict()`` has them.
        args: the flags that the model was built from, complete.

    Raises:
        AdminError: if the model cannot be folded; it lists every reason.
    """
    check_foldable(state, args)
    wide = in_float64(state)
    # kept to see what was folded: that is a new tensor under its name
    unfolded = dict(wide)
    folded = Folded(copy.deepcopy(args))
    for stack in STACKS:
        sites = stack_sites(args, stack)
        scales = _read_scales(wide, args, sites, folded.zeros)
        for site, scale_in, scale_out in zip(sites, scales, scales[1:]):
            _fold_site(wide, site, scale_in, scale_out)
        folded.routes[stack] = _fold_first(wide, folded.args, stack, scales[0])
        folded.scales[stack] = scales
    make_stock_flags(folded.args, folded.routes)
    folded.weights = _in_given_dtypes(wide, unfolded, state)
    _check_finite(state, folded.weights)
    folded.new_parameters = _count_new(folded, state, args)
    return folded


def in_float64(weights: Weights) -> Weights:
    """Return weights with floating-point numbers in float64."""
    wide = dict(weights)
    for name, value in weights.items():
        if value.is_floating_point():
            wide[name] = value.double()
    return wide


def _read_scales(
    wide: Weights, args: Namespace, sites: Sequence[SiteName], zeros: dict[str, int]
) -> list[torch.Tensor]:
    """Return [s_0, ..., s_n] of a stack, each (C,): the omegas of its sites, then ones.

    Sites with omegas of exactly 0 are counted in ``zeros``.
    """
    if not sites:
        # no layer tells C, and one element is broadcast to any
        return [torch.ones(1, dtype=torch.float64)]
    ones = torch.ones_like(wide[f"{sites[0].layer_norm}.weight"])
    formula = method_of(args).closed_form
    scales = []
    for site in sites:
        scale = wide.get(f"{site}.omega", ones)
        if formula is not None and f"{site}.alpha" in wide:
            # the model computes with the formula's number, not the one that a checkpoint rounds
            scale = ones * formula(args, site.stack)
        if scale.eq(0).any():
            zeros[str(site)] = int(scale.eq(0).sum())
            scale = torch.where(scale.eq(0), _SMALLEST, scale)
        scales.append(scale)
    return [*scales, ones]


def _fold_site(
    wide: Weights, site: SiteName, scale_in: torch.Tensor, scale_out: torch.Tensor
) -> None:
    """Fold one site: its branch reads s_{i-1} * x, its LayerNorm writes s_i * x."""
    for reader in site.readers:
        # not in place: weights that were in float64 are still the caller's own tensors
        wide[f"{reader}.weight"] = wide[f"{reader}.weight"] / scale_in
    _multiply(wide, site.layer_norm, scale_out)
    branch_scale = wide.get(f"{site.layer_path}.resweight")
    if branch_scale is not None:  # ReZero Post-LN: LN(x + w * f(x))
        _multiply(wide, site.last_map, branch_scale)


def _multiply(wide: Weights, module: str, scale: torch.Tensor) -> None:
    """Multiply what a LayerNorm or the last linear map of a branch puts out."""
    for name in (f"{module}.weight", f"{module}.bias"):
        wide[name] = wide[name] * scale


def _fold_first(wide: Weights, args: Namespace, stack: str, scale: torch.Tensor) -> str:
    """Have the input of a stack come scaled by ``scale`` (C,); returns the route."""
    noise, norm = f"{stack}.quant_noise.weight", f"{stack}.layernorm_embedding"
    if scale.eq(1).all():
        return "b"
    if stack == "encoder" and noise in wide:  # --quant-noise-pq puts a linear map last
        wide[noise] = wide[noise] * scale[:, None]
        return "a"
    # before the decoder's noise, which fairseq applies ahead of positions and LayerNorm
    if f"{norm}.weight" in wide:
        _multiply(wide, norm, scale)
        return "a"
    if noise in wide:
        wide[noise] = wide[noise] * scale[:, None]
    else:
        # a new tensor: an output projection that was tied to it goes on with the old one
        embedding = f"{stack}.embed_tokens.weight"
        wide[embedding] = wide[embedding] * scale
    # fairseq adds positions to the embedding: the sum is scaled if both are
    if not args.no_token_positional_embeddings:
        table = _positions(wide, args, stack).to(scale)
        wide[f"{stack}.embed_positions.weight"] = table * scale
        setattr(args, f"{stack}_learned_pos", True)
    return "c"


def _positions(wide: Weights, args: Namespace, stack: str) -> torch.Tensor:
    """Return a stack's table of positions, (max positions + 2) x C.

    Sinusoids are what fairseq computes, on the CPU.
    """
    learned = wide.get(f"{stack}.embed_positions.weight")
    if learned is not None:
        return learned
    side = {"encoder": "source", "decoder": "target"}[stack]
    rows = getattr(args, f"max_{side}_positions") + _PADDING + 1
    dim = getattr(args, f"{stack}_embed_dim")
    return SinusoidalPositionalEmbedding.get_embedding(rows, dim, _PADDING)


def _in_given_dtypes(wide: Weights, unfolded: Weights, state: Weights) -> Weights:
    """Return weights in the dtypes of ``state``; what was not folded is its own tensor."""
    embedding = state["decoder.embed_tokens.weight"]
    weights: Weights = {}
    for name, value in wide.items():
        if is_scale(name):
            continue
        if value is unfolded.get(name):  # tied weights stay one tensor, also in a file
            weights[name] = state[name]
        else:
            weights[name] = value.to(state.get(name, embedding).dtype)
    return weights


def _count_new(folded: Folded, state: Weights, args: Namespace) -> int:
    tables = count_tables(folded.args) - count_tables(args)
    added = tables * state["decoder.embed_tokens.weight"].numel()
    for name, value in folded.weights.items():
        if name not in state:
            added += value.numel()
    return added


def _check_finite(before: Weights, after: Weights) -> None:
    """Refuse weights that their type cannot hold.

    Raises:
        AdminError: if there are some; it tells whether they were so before.
    """
    # first: otherwise folding would be blamed
    unsound = non_finite(before)
    if unsound:
        raise AdminError(
            f"{unsound[0]} holds NaN or infinity before folding: the training diverged"
        )
    broken = non_finite(after)
    if not broken:
        return
    dtype = after[broken[0]].dtype
    advice = ""
    if dtype in (torch.float16, torch.bfloat16):
        advice = (
            ". Make a float32 checkpoint first: "
            "admin-fairseq average --inputs CHECKPOINT --output FLOAT32"
        )
    raise AdminError(
        f"{broken[0]} overflows {str(dtype).replace('torch.', '')}: an omega of its site is too "
        f"close to 0{advice}"
    )
