"""fairseq's own ``transformer``: its flags, made of ours, and building it."""

import copy
from argparse import Namespace

from fairseq.data import Dictionary
from fairseq.models.transformer import TransformerModel

from ..checkpoints import task_of
from ..options import ADMIN_FLAGS

# what is faster here, and the same in fairseq: whoever reads the result need not have the plugin
STOCK_NAMES = {
    "fused_label_smoothed_cross_entropy": "label_smoothed_cross_entropy",
    "multi_tensor_adam": "adam",
    "fused_adam": "adam",
}


def build_stock(args: Namespace, source: Dictionary, target: Dictionary) -> TransformerModel:
    """Build fairseq's own ``transformer`` from the flags of a ``fold.Folded`` and dictionaries."""
    return TransformerModel.build_model(copy.deepcopy(args), task_of(source, target))


def make_stock_flags(args: Namespace, routes: dict[str, str]) -> None:
    """Change flags in place to those of fairseq's own ``transformer``.

    Its embeddings are tied where no route needs a copy.

    Args:
        args: flags of an ``admin_transformer``, complete.
        routes: stack -> ``a``, ``b`` or ``c``: see ``fold``.
    """
    _untie(args, routes)
    for name in (*ADMIN_FLAGS, "admin_omega"):
        if hasattr(args, name):
            delattr(args, name)
    for name in ("criterion", "optimizer"):
        if getattr(args, name, None) in STOCK_NAMES:
            setattr(args, name, STOCK_NAMES[getattr(args, name)])
    # all dimensions are among the flags, whatever architecture they were the default values of
    args.arch = "transformer"
    if hasattr(args, "_name"):
        args._name = "transformer"
    args.user_dir = args.encoder_embed_path = args.decoder_embed_path = None


def _untie(args: Namespace, routes: dict[str, str]) -> None:
    # it implies the decoder's own tie, which may stay when the encoder gets a copy
    if args.share_all_embeddings:
        args.share_decoder_input_output_embed = True
    if "c" in routes.values():
        args.share_all_embeddings = False
    if routes["decoder"] == "c":
        args.share_decoder_input_output_embed = False
    if args.adaptive_softmax_cutoff and args.share_decoder_input_output_embed:
        # it shares nothing with the embedding, and fairseq cannot load it if flags say that it does
        args.share_all_embeddings = args.share_decoder_input_output_embed = False


def count_tables(args: Namespace) -> int:
    """Return how many tables of the target vocabulary's size, or more, a model has."""
    if args.share_all_embeddings:
        return 1
    if args.adaptive_softmax_cutoff or args.share_decoder_input_output_embed:
        return 2
    return 3
