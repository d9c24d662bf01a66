"""What cannot be folded, and why."""

from argparse import Namespace

from ..errors import raise_all
from ..init_types import SCALES, method_of
from ..sites import STACKS
from ..weights import Weights

# parts of the names of weights that fairseq's layers have with --scale-attn and the like
_EXTRA_SCALES = (".attn_ln.", "ffn_layernorm", "w_resid")


def check_foldable(state: Weights, args: Namespace) -> None:
    """Refuse what cannot be folded; a model without scales needs no folding, and passes.

    Args:
        state: name -> tensor, as ``model.state_dict()`` has them.
        args: the flags that the model was built from, complete.

    Raises:
        AdminError: with every reason.
    """
    if not any(is_scale(name) for name in state):
        return
    problems = _without_layer_norms(args) + _without_known_readers(args)
    if not getattr(args, "layernorm_embedding", False):
        problems += _without_scalable_embedding(args)
    # by their weights: the flags are not among those of fairseq's translation models
    if any(part in name for name in state for part in _EXTRA_SCALES):
        problems.append(
            "extra LayerNorms or scales in its layers (--scale-attn and the like): their place is "
            "not known here"
        )
    raise_all("this model cannot be folded:", problems)


def is_scale(name: str) -> bool:
    """Whether a weight is a scale of residual sites, by its name."""
    return name.rpartition(".")[2] in SCALES


def _without_layer_norms(args: Namespace) -> list[str]:
    problems = []
    method = method_of(args)
    if not method.has_layer_norms:
        problems.append(
            f"--init-type {method.name}: no LayerNorm follows a site, so that nothing can take its "
            "scale"
        )
    for stack in STACKS:
        if getattr(args, f"{stack}_normalize_before", False):
            problems.append(f"--{stack}-normalize-before: no LayerNorm follows a site")
    return problems


def _without_known_readers(args: Namespace) -> list[str]:
    reasons = {
        "cross_self_attention": "k and v of the decoder read both stacks, whose scales differ",
        "tie_adaptive_weights": "the output layer shares the embedding that would be scaled",
        "base_layers": "these layers have no residual site",
        "encoder_layers_to_keep": "fold all layers, or train without it",
        "decoder_layers_to_keep": "fold all layers, or train without it",
    }
    return _given(args, reasons)


def _without_scalable_embedding(args: Namespace) -> list[str]:
    without = "without --layernorm-embedding"
    problems = []
    if getattr(args, "adaptive_input", False):
        problems.append(f"--adaptive-input {without}: its embeddings cannot be scaled")
    if getattr(args, "merge_src_tgt_embed", False):
        problems.append(f"--merge-src-tgt-embed {without}: its embedding cannot be untied")
    return problems


def _given(args: Namespace, reasons: dict[str, str]) -> list[str]:
    problems = []
    for name, reason in reasons.items():
        if getattr(args, name, None):
            problems.append(f"--{name.replace('_', '-')}: {reason}")
    return problems
