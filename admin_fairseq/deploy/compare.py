"""Does the folded model put out what the model does? Compared before anything is written."""

import logging
from argparse import Namespace
from typing import Any

import torch
from fairseq.models.transformer import TransformerModel

from ..errors import AdminError
from ..weights import Weights
from .fold import Folded, fold_state, in_float64
from .stock import build_stock

logger = logging.getLogger(__name__)
_EXACT = 1e-9  # of the largest logit: what float64 rounds
_EXACT_WITH_ZEROS = 1e-4  # 1e-8 for an omega of 0 is a change, if a small one
_LONGEST = 40  # tokens of a made-up sentence


@torch.no_grad()
def compare(
    model: TransformerModel, weights: Weights, args: Namespace, folded: Folded, path: str
) -> float:
    """Compare logits of the folded model with the model's on a made-up batch, in float64.

    Twice: folded without rounding, which has to be exact, and as it will be stored. Storing rounds
    the weights that were changed to their type once more. That moves the logits by about as much as
    rounding any weights does, which is measured beside it: random changes of at most half a unit in
    the last place. Ten times that is the limit.

    Args:
        model: the model; afterwards in float64, in evaluation mode and with other weights.
        weights: its own, as its checkpoint stores them.
        args: its flags, complete.
        folded: made of these.
        path: of the checkpoint, for messages.

    Returns:
        The largest difference of a logit, as the folded model is stored.

    Raises:
        AdminError: if either difference is larger.
    """
    batch = _made_up_batch(model)
    model.double().eval()
    expected = model(**batch)[0]
    stock = build_stock(folded.args, model.encoder.dictionary, model.decoder.dictionary)
    # before weights are loaded, which would round them to its type
    stock.double().eval()
    differences = []
    for stored in (fold_state(in_float64(weights), args).weights, folded.weights):
        stock.load_state_dict(stored)
        differences.append((stock(**batch)[0] - expected).abs().max().item())
    model.load_state_dict(_rounded_otherwise(weights))
    noise = (model(**batch)[0] - expected).abs().max().item()
    unrounded, stored_difference = differences
    logger.info(
        "logits differ by %.1e at most, and by %.1e as they are stored (rounding of the weights "
        "alone: %.1e), in float64, on %d made-up sentences",
        unrounded, stored_difference, noise, len(batch["src_tokens"]),
    )  # fmt: skip
    limit = expected.abs().max().item() * (_EXACT_WITH_ZEROS if folded.zeros else _EXACT)
    # NaN is not within any limit
    if not (unrounded <= limit and stored_difference <= 10 * noise + limit):
        raise AdminError(
            f"{path}: the folded model puts out something else: logits differ by {unrounded:.1e}, "
            f"and by {stored_difference:.1e} as they are stored, of which rounding explains "
            f"{noise:.1e}. Nothing was written. {_hint_of_derived_classes(model)}Half-precision "
            "weights fold better after admin-fairseq average --inputs CHECKPOINT --output FLOAT32"
        )
    return stored_difference


def _made_up_batch(model: TransformerModel, sentences: int = 8, seed: int = 1) -> dict[str, Any]:
    """Return a ``net_input`` of random tokens, in sentences of different lengths.

    All are B x T, with source padded left and target padded right, as fairseq pads.
    """
    generator = torch.Generator().manual_seed(seed)
    tokens = {}
    for stack in ("encoder", "decoder"):
        words = getattr(model, stack).dictionary
        length = min(_LONGEST, getattr(model, stack).max_positions())
        rows = torch.randint(words.nspecial, len(words), (sentences, length), generator=generator)
        for row in range(sentences):
            # the first row has no padding, the last one nearly half: masks and positions count too
            cut = row * length // (2 * sentences)
            padding = slice(0, cut) if stack == "encoder" else slice(length - cut, length)
            rows[row, padding] = words.pad()
        tokens[stack] = rows
    # as in a training, sources end in </s> and targets, shifted, begin with it
    tokens["encoder"][:, -1] = tokens["decoder"][:, 0] = model.decoder.dictionary.eos()
    return {
        "src_tokens": tokens["encoder"],
        "src_lengths": tokens["encoder"].ne(model.encoder.padding_idx).sum(1),
        "prev_output_tokens": tokens["decoder"],
    }


def _rounded_otherwise(weights: Weights, seed: int = 1) -> Weights:
    """Return weights in float64, moved by at most half a unit in the last place of their type."""
    generator = torch.Generator().manual_seed(seed)
    moved = dict(weights)
    for name, value in weights.items():
        # a version that is not whole would stand for another layout of the weights
        if value.is_floating_point() and not name.endswith("version"):
            noise = torch.rand(value.shape, generator=generator, dtype=torch.float64) - 0.5
            moved[name] = value.double() * (1 + torch.finfo(value.dtype).eps * noise)
    return moved


def _hint_of_derived_classes(model: TransformerModel) -> str:
    """Return a sentence about a user's own classes, if any: they may compute something else."""
    layers = [*model.encoder.layers, *model.decoder.layers]
    foreign = set()
    for part in (model, model.encoder, model.decoder, *layers):
        kind = type(part)
        if kind.__module__.split(".")[0] not in ("admin_fairseq", "fairseq"):
            foreign.add(f"{kind.__module__}.{kind.__qualname__}")
    if not foreign:
        return ""
    return f"Is it because of the architecture's own {', '.join(sorted(foreign))}? "
