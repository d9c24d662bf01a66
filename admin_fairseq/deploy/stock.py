"""fairseq's own ``transformer``: its flags, made of ours, and building it."""

import copy

from fairseq.models.transformer import TransformerModel

from ..options import ADMIN_FLAGS


def build_stock(args, source_dictionary, target_dictionary):
    """Build fairseq's own ``transformer`` from the flags of a :class:`Folded`."""
    # all that fairseq reads of a task when it builds a Transformer
    task = type(
        "Dictionaries",
        (),
        {"source_dictionary": source_dictionary, "target_dictionary": target_dictionary},
    )
    return TransformerModel.build_model(copy.deepcopy(args), task)


def stock_flags(args, routes):
    """Make flags those of fairseq's own ``transformer``, whose embeddings are tied where no route needs a copy."""
    if args.share_all_embeddings:
        args.share_decoder_input_output_embed = True
    if "c" in routes.values():
        args.share_all_embeddings = False
    if routes["decoder"] == "c":
        args.share_decoder_input_output_embed = False
    if args.adaptive_softmax_cutoff and args.share_decoder_input_output_embed:
        # it shares nothing with the embedding, and fairseq cannot load it where flags say that it does
        args.share_all_embeddings = args.share_decoder_input_output_embed = False
    for name in ADMIN_FLAGS + ("admin_omega",):
        if hasattr(args, name):
            delattr(args, name)
    args.arch = (
        "transformer"  # all dimensions are among the flags, whatever they were the defaults of
    )
    if hasattr(args, "_name"):
        args._name = "transformer"
    args.user_dir = args.encoder_embed_path = args.decoder_embed_path = None


def embedding_tables(args):
    """Return how many tables of the target vocabulary's size, or more, a model has."""
    if args.adaptive_softmax_cutoff:
        return 1 if args.share_all_embeddings else 2
    return 1 if args.share_all_embeddings else 2 if args.share_decoder_input_output_embed else 3
