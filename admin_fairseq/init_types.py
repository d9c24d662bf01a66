"""The init types: how residual sites scale, and how the weights of their branches start.

Each is a choice of the scales s and b in ``b * f(x) + s * x`` (see ``residual``) and of the
branches' first weights. N and M are the depths of encoder and decoder, n the number of residual
sites in a stack (2N in the encoder, 3M in the decoder).

    default         b = s = 1: fairseq's Post-LN, or Pre-LN with the normalize-before flags
    adaptive*       b = 1, s = omega, learnable; omega from a profile (``omega_init``)
    analytic        b = 1, s = omega, learnable or constant, from n alone (admin-torch)
    deepnet         b = 1, s = alpha, constant; branches start smaller by beta (arXiv 2203.00555)
    rezero          s = 1, b = one learnable scalar a layer that starts at 0; no LayerNorm (arXiv 2003.04887)
    rezero_postln   the same with the LayerNorms of Post-LN
    looklinear      b = s = 1; the feed-forward branch starts as a linear map (arXiv 1702.08591)
"""

import math

import torch
from torch import nn

from .errors import AdminError
from .residual import ConstantResidual, OmegaResidual, Residual, ReZeroResidual

INIT_TYPES = (
    "default",
    "adaptive-profiling",
    "adaptive",
    "adaptive-auto",
    "analytic",
    "deepnet",
    "rezero",
    "rezero_postln",
    "looklinear",
)
MEASURED_TYPES = (
    "adaptive-profiling",
    "adaptive-auto",
)  # their omegas come from the first training batch
OUTPUT_CHANGES = ("O(logn)", "O(1)", "O(n)")
MIRRORED = ("relu", "gelu", "gelu_fast", "gelu_accurate")  # activations with a(x) - a(-x) = x


def init_type_of(cfg):
    """Return the init type of a model's configuration."""
    return str(getattr(cfg, "init_type", "default"))


def is_adaptive(cfg):
    """Whether omegas come from a profile."""
    return init_type_of(cfg).startswith("adaptive")


def add_sites(layer, cfg, stack, names):
    """Give a layer its residual sites, and start its weights, as the init type says.

    Args:
        layer: one of fairseq's Transformer layers, just built.
        cfg: fairseq's ``TransformerConfig``, with the plugin's flags.
        stack: ``encoder`` or ``decoder``.
        names: attributes that the sites become, in forward order.
    """
    init_type = init_type_of(cfg)
    dim = layer.embed_dim
    if getattr(cfg, "xavier_ffn", False):
        start_ffn(layer)
    if init_type in ("analytic", "deepnet"):
        omega = closed_form(cfg, stack)
        constant = init_type == "deepnet" or getattr(cfg, "analytic_constant", False)
        sites = [ConstantResidual(omega) if constant else OmegaResidual(dim, omega) for _ in names]
        if init_type == "deepnet":
            start_deepnet(layer, deepnorm_scales(cfg.encoder_layers, cfg.decoder_layers)[stack][1])
    elif init_type in ("rezero", "rezero_postln"):
        layer.resweight = nn.Parameter(torch.zeros(1))
        sites = [ReZeroResidual(layer.resweight) for _ in names]
        if init_type == "rezero":
            remove_layer_norms(layer)
    else:
        sites = [OmegaResidual(dim) if is_adaptive(cfg) else Residual() for _ in names]
        if init_type == "looklinear":
            start_looklinear(layer)
    for name, site in zip(names, sites):
        setattr(layer, name, site)


# what a state dict holds for the sites -> the init types that it can be of
SCALES = {
    "omega": "adaptive, or analytic",
    "alpha": "deepnet, or analytic --analytic-constant",
    "resweight": "rezero*",
}


def check_scales(model, state):
    """Refuse weights that were trained with sites of another kind: most would load, and compute something else.

    Raises:
        AdminError: naming both kinds.
    """
    ours, theirs = (
        {name: value for name, value in weights.items() if name.rpartition(".")[2] in SCALES}
        for weights in (model.state_dict(), state)
    )
    kinds = [
        " and ".join(
            SCALES[kind] for kind in SCALES if any(name.endswith("." + kind) for name in names)
        )
        or "default, or looklinear"
        for names in (theirs, ours)
    ]
    if kinds[0] != kinds[1]:
        raise AdminError(
            f"the checkpoint was trained with --init-type {kinds[0]}, and this model is of --init-type {kinds[1]}: "
            "use the init type of the training; or start anew, with another --save-dir and without --finetune-from-model "
            "and --restore-file"
        )
    for name, value in ours.items():
        given = theirs.get(name)
        if (
            name.endswith(".alpha")
            and given is not None
            and not math.isclose(given, value, rel_tol=0.01)
        ):
            raise AdminError(
                f"the checkpoint's {name} is {float(given):.4g}, and this model's is {float(value):.4g}: use the "
                "--init-type, --analytic-output-change and depth of the training"
            )


def closed_form(cfg, stack):
    """Return the scale that all sites of a stack start with by formula: DeepNorm's alpha, or the analytic omega."""
    if init_type_of(cfg) == "deepnet":
        return deepnorm_scales(cfg.encoder_layers, cfg.decoder_layers)[stack][0]
    return analytic_omega(
        count_sites(cfg, stack), getattr(cfg, "analytic_output_change", "O(logn)")
    )


def count_sites(cfg, stack):
    """Return n, the number of residual sites in a stack."""
    if stack == "encoder":
        return 2 * cfg.encoder_layers
    return (2 if cfg.no_cross_attention else 3) * cfg.decoder_layers


def analytic_omega(n, output_change="O(logn)"):
    """Return the one omega of all n sites of a stack that gives the wanted output change.

    The output change is how far the stack's output moves when its weights do. From the later closed
    form of Admin's authors (github.com/microsoft/admin-torch): omega^2 = (n + 1) / ln(n + 1) - 1 for
    ``O(logn)``, n for ``O(1)``; 1, which is Post-LN, for ``O(n)``.
    """
    squares = {"O(logn)": (n + 1) / math.log(n + 1) - 1, "O(1)": n, "O(n)": 1.0}
    return math.sqrt(squares[str(output_change)])


def deepnorm_scales(encoder_layers, decoder_layers):
    """Return ``{stack: (alpha, beta)}`` of DeepNorm (Wang et al., 2022, arXiv 2203.00555, table 1).

    alpha scales the shortcut; beta is the Xavier gain of the weights that ``start_deepnet`` names.
    """
    n, m = encoder_layers, decoder_layers
    both = (n**4 * m) ** (1 / 16)
    return {"encoder": (0.81 * both, 0.87 / both), "decoder": ((3 * m) ** 0.25, (12 * m) ** -0.25)}


def start_ffn(layer, gain=1.0):
    """Start the feed-forward branch with Xavier's uniform weights and zero biases.

    So do fairseq 0.9 and the authors' code. Since 0.10 fairseq leaves these weights to nn.Linear, which
    starts them smaller: for dims 512 and 2048 by 1.1 in fc1 and by 2.2 in fc2. The branch then depends on
    its input less than half as much, and the papers' figures come out only with Xavier's.
    """
    for linear in (layer.fc1, layer.fc2):
        nn.init.xavier_uniform_(linear.weight, gain=gain)
        nn.init.zeros_(linear.bias)


def start_deepnet(layer, beta):
    """Start a layer's branches as DeepNorm says: Xavier, with gain 1 for q and k, and beta for the rest."""
    attentions = [
        module
        for module in (layer.self_attn, getattr(layer, "encoder_attn", None))
        if module is not None
    ]
    for attention in attentions:
        nn.init.xavier_uniform_(attention.q_proj.weight)
        nn.init.xavier_uniform_(attention.k_proj.weight)
        nn.init.xavier_uniform_(attention.v_proj.weight, gain=beta)
        nn.init.xavier_uniform_(attention.out_proj.weight, gain=beta)
    start_ffn(layer, beta)


@torch.no_grad()
def start_looklinear(layer):
    """Start the feed-forward branch as a linear map (Balduzzi et al., 2017, arXiv 1702.08591, section 4).

    fc1 holds [W; -W] and fc2 [V, -V], so that V relu(Wx) - V relu(-Wx) = VWx; it holds for gelu too. W
    and V are halves of Xavier's matrices, as in the authors' code.
    """
    start_ffn(layer)
    half = layer.fc1.weight.size(0) // 2
    layer.fc1.weight[half:] = -layer.fc1.weight[:half]
    layer.fc2.weight[:, half:] = -layer.fc2.weight[:, :half]


def remove_layer_norms(layer):
    """Make a layer's LayerNorms do nothing, and hold no parameters."""
    for name, module in list(layer.named_children()):
        if name.endswith("layer_norm") and module is not None:
            setattr(layer, name, nn.Identity())
