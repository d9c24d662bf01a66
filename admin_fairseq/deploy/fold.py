"""Fold: rewrite a trained Admin model as a stock Post-LN Transformer with the same outputs.

The paper (Liu et al., EMNLP 2020, section 4.3) says that omega can be taken into the other weights; this is
how. In a stack with residual sites 1..n, x_i = LN_i( f_i(x_{i-1}) + omega_i * x_{i-1} ). Let x_{i-1} come
scaled by s_{i-1} = omega_i, so that the shortcut needs no scale of its own:

- LN_i puts out s_i * x_i when its weight and bias are multiplied by s_i = omega_{i+1} (s_n = 1);
- whatever reads x_{i-1} in branch i divides its input columns by s_{i-1}: the self-attention's q, k and v;
  of the cross-attention q only, since k and v read the encoder's output; fc1. Biases stay as they are.

No LayerNorm precedes the first site, so that s_0 = omega_1 takes one of three routes:

    a   into the LayerNorm of the embedding (``--layernorm-embedding``): no new parameters
    b   omega_1 is all ones (``--freeze-first-omega``, or no omega at all): nothing to do
    c   into copies of its own: an embedding that is no longer tied, and a learned table of positions

The input of every LayerNorm is what it was, so this is exact but for rounding. It is computed in float64.
"""

import copy
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Dict, List

import torch
from fairseq.modules import SinusoidalPositionalEmbedding

from ..errors import AdminError, raise_all
from ..init_types import SCALES, closed_form, init_type_of
from ..profile.data import stack_of
from .stock import build_stock, embedding_tables, stock_flags

PADDING = 1  # index of <pad> in every fairseq dictionary
SMALLEST = 1e-8  # what an omega of exactly 0 becomes: columns are divided by it
# site -> the LayerNorm after it, the weights that read its shortcut, the last linear map of its branch
PARTS = {
    "self_attn_residual": (
        "self_attn_layer_norm",
        ["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"],
        "self_attn.out_proj",
    ),
    "encoder_attn_residual": (
        "encoder_attn_layer_norm",
        ["encoder_attn.q_proj"],
        "encoder_attn.out_proj",
    ),
    "ffn_residual": ("final_layer_norm", ["fc1"], "fc2"),
}


@dataclass
class Folded:
    """A stock model, and how it came about.

    Attributes:
        weights: name -> tensor, of the dtypes that were given.
        args: flags of ``--arch transformer``.
        routes: stack -> ``a``, ``b`` or ``c`` (see the module).
        zeros: sites that had omegas of exactly 0 -> how many.
        scales: stack -> [s_0, ..., s_n], each a float64 tensor (C,).
        new_parameters: how many the stock model has more, without the omegas' own.
    """

    weights: Dict[str, torch.Tensor]
    args: object
    routes: Dict[str, str] = field(default_factory=OrderedDict)
    zeros: Dict[str, int] = field(default_factory=OrderedDict)
    scales: Dict[str, List[torch.Tensor]] = field(default_factory=OrderedDict)
    new_parameters: int = 0


@torch.no_grad()
def fold(model):
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
    stock.to(next(model.parameters())).load_state_dict(
        folded.weights
    )  # first its dtype: loading would round
    return stock.train(model.training)


@torch.no_grad()
def fold_state(state, args):
    """Fold the weights of a checkpoint.

    Args:
        state: name -> tensor, as ``model.state_dict()`` has them.
        args: the flags that the model was built from, complete (a Namespace).

    Returns:
        Folded. ``state`` and ``args`` are left as they are.

    Raises:
        AdminError: if the model cannot be folded; it lists every reason.
    """
    sites = OrderedDict((stack, stack_sites(args, stack)) for stack in ("encoder", "decoder"))
    check(state, args, sites)
    wide = {
        name: value.double() if value.is_floating_point() else value
        for name, value in state.items()
    }
    unchanged = dict(wide)
    folded = Folded(OrderedDict(), copy.deepcopy(args))
    for stack, names in sites.items():
        scales = read_scales(wide, args, names, folded.zeros)
        folded.scales[stack] = scales
        for site, before, after in zip(names, scales, scales[1:]):
            fold_site(wide, site, before, after)
        folded.routes[stack] = fold_first(wide, folded.args, stack, scales[0])
    stock_flags(folded.args, folded.routes)
    embedding = state["decoder.embed_tokens.weight"]
    for name, value in wide.items():
        if name.rpartition(".")[2] not in SCALES:  # tied weights stay one tensor, also in a file
            as_it_was = value is unchanged.get(name)
            folded.weights[name] = (
                state[name] if as_it_was else value.to(state.get(name, embedding).dtype)
            )
    check_finite(state, folded.weights)
    tables = embedding_tables(folded.args) - embedding_tables(args)
    added = [value.numel() for name, value in folded.weights.items() if name not in state]
    folded.new_parameters = tables * embedding.numel() + sum(added)
    return folded


def stack_sites(args, stack):
    """Return the names of a stack's sites in forward order, ``decoder.layers.0.ffn_residual``."""
    layers = range(getattr(args, f"{stack}_layers"))
    roles = [
        role
        for role in PARTS
        if role != "encoder_attn_residual" or stack == "decoder" and not args.no_cross_attention
    ]
    return [f"{stack}.layers.{layer}.{role}" for layer in layers for role in roles]


def check(state, args, sites):
    """Refuse what cannot be folded, with every reason.

    Raises:
        AdminError: if there is one.
    """
    given = vars(args).get
    rules = [
        (
            init_type_of(args) == "rezero",
            "--init-type rezero: no LayerNorm follows a site, so that nothing can take its scale",
        ),
        *(
            (
                given(f"{stack}_normalize_before"),
                f"--{stack}-normalize-before: no LayerNorm follows a site",
            )
            for stack in sites
        ),
        (
            given("cross_self_attention"),
            "--cross-self-attention: k and v of the decoder read both stacks, whose scales differ",
        ),
        (
            given("tie_adaptive_weights"),
            "--tie-adaptive-weights: the output layer shares the embedding that would be scaled",
        ),
        (given("base_layers"), "--base-layers: these layers have no residual site"),
        *(
            (
                given(f"{stack}_layers_to_keep"),
                f"--{stack}-layers-to-keep: fold all layers, or train without it",
            )
            for stack in sites
        ),
    ]
    if not given("layernorm_embedding"):
        rules += [
            (
                given("adaptive_input"),
                "--adaptive-input without --layernorm-embedding: its embeddings cannot be scaled",
            ),
            (
                given("merge_src_tgt_embed"),
                "--merge-src-tgt-embed without --layernorm-embedding: its embedding cannot be untied",
            ),
        ]
    if any(
        ".attn_ln." in name or "ffn_layernorm" in name or name.endswith("w_resid") for name in state
    ):
        rules.append(
            (
                True,
                "extra LayerNorms or scales in its layers (--scale-attn and the like): their place is not known here",
            )
        )
    scaled = any(name.rpartition(".")[2] in SCALES for name in state)
    raise_all(
        "this model cannot be folded:", [reason for broken, reason in rules if broken and scaled]
    )


def part(site, which):
    """Return the module names of a site's LayerNorm (0), readers (1) or last linear map (2)."""
    layer, _, role = site.rpartition(".")
    found = PARTS[role][which]
    return [f"{layer}.{name}" for name in found] if isinstance(found, list) else f"{layer}.{found}"


def read_scales(wide, args, names, zeros):
    """Return [s_0, ..., s_n] of a stack, each (C,): the omegas of its sites, then ones."""
    if not names:
        return [torch.ones(1, dtype=torch.float64)]
    ones = torch.ones_like(wide[part(names[0], 0) + ".weight"])
    scales = []
    for name in names:
        scale = wide.get(f"{name}.omega", ones)
        if (
            f"{name}.alpha" in wide
        ):  # what is computed is the formula's number, not the one that a checkpoint rounds
            scale = ones * closed_form(args, stack_of(name))
        if scale.eq(0).any():
            zeros[name] = int(scale.eq(0).sum())
            scale = torch.where(scale.eq(0), SMALLEST, scale)
        scales.append(scale)
    return scales + [ones]


def fold_site(wide, site, before, after):
    """Fold one site: its branch reads s_{i-1} * x, its LayerNorm writes s_i * x."""
    for reader in part(site, 1):
        wide[f"{reader}.weight"] = wide[f"{reader}.weight"] / before
    multiply(wide, part(site, 0), after)
    branch_scale = wide.get(
        f"{site.rpartition('.')[0]}.resweight"
    )  # rezero_postln: LN(x + w * f(x))
    if branch_scale is not None:
        multiply(wide, part(site, 2), branch_scale)


def multiply(wide, module, scale):
    """Multiply what a LayerNorm or the last linear map of a branch puts out."""
    for name in (f"{module}.weight", f"{module}.bias"):
        wide[name] = wide[name] * scale


def fold_first(wide, args, stack, scale):
    """Have the input of a stack come scaled by ``scale`` (C,); returns the route."""
    noise, norm = f"{stack}.quant_noise.weight", f"{stack}.layernorm_embedding"
    if scale.eq(1).all():
        return "b"
    if stack == "encoder" and noise in wide:  # --quant-noise-pq puts a linear map last
        wide[noise] = wide[noise] * scale[:, None]
        return "a"
    if f"{norm}.weight" in wide:
        multiply(wide, norm, scale)
        return "a"
    if noise in wide:
        wide[noise] = wide[noise] * scale[:, None]
    else:
        wide[f"{stack}.embed_tokens.weight"] = wide[f"{stack}.embed_tokens.weight"] * scale
    if not args.no_token_positional_embeddings:
        wide[f"{stack}.embed_positions.weight"] = positions(wide, args, stack).to(scale) * scale
        setattr(args, f"{stack}_learned_pos", True)
    return "c"


def positions(wide, args, stack):
    """Return a stack's table of positions, (max positions + 2) x C; sinusoids are what fairseq computes, on the CPU."""
    learned = wide.get(f"{stack}.embed_positions.weight")
    if learned is not None:
        return learned
    longest = getattr(
        args, "max_source_positions" if stack == "encoder" else "max_target_positions"
    )
    dim = getattr(args, f"{stack}_embed_dim")
    return SinusoidalPositionalEmbedding.get_embedding(longest + PADDING + 1, dim, PADDING)


def check_finite(before, after):
    """Refuse weights that their type cannot hold.

    Raises:
        AdminError: if there are some; it tells whether they were so before.
    """
    unsound = [name for name, value in before.items() if not torch.isfinite(value).all()]
    if unsound:
        raise AdminError(
            f"{unsound[0]} holds NaN or infinity before folding: the training diverged"
        )
    broken = [name for name, value in after.items() if not torch.isfinite(value).all()]
    if not broken:
        return
    dtype = after[broken[0]].dtype
    advice = ""
    if dtype in (torch.float16, torch.bfloat16):
        advice = ". Make a float32 checkpoint first: admin-fairseq average --inputs CHECKPOINT --output FLOAT32"
    raise AdminError(
        f"{broken[0]} overflows {str(dtype).replace('torch.', '')}: an omega of its site is too close to 0{advice}"
    )
