"""Does CTranslate2 compute what the folded model does?"""

import logging
from collections.abc import Sequence
from typing import Optional

import torch
from fairseq.data import Dictionary

from ..errors import AdminError
from .fold import Folded
from .stock import build_stock

logger = logging.getLogger(__name__)
CLOSE = 1e-3  # nats per token that float32 may be off: another order of additions


@torch.no_grad()
def compare(
    folder: str,
    folded: Folded,
    words: Sequence[Dictionary],
    limit: Optional[float] = None,
    sentences: int = 8,
    length: int = 12,
) -> None:
    """Compare log-probabilities of made-up sentences, token by token, with the folded model's.

    Args:
        folder: CTranslate2's model.
        folded: what it was made of, in float32.
        words: dictionaries of source and target.
        limit: nats; None for none, as what int8 is off depends on the model.
        sentences: B, how many are made up.
        length: T, of each, if the model's positions suffice.

    Raises:
        AdminError: if one differs by more than ``limit``.
    """
    import ctranslate2  # here: it is no dependency of ours

    longest = min(folded.args.max_source_positions, folded.args.max_target_positions)
    # one position is for </s>
    tokens = _made_up_sentences(words, sentences, min(length, longest - 1))
    expected = _log_probabilities(folded, words, tokens)
    translator = ctranslate2.Translator(folder, device="cpu")
    texts = []
    for dictionary, rows in zip(words, tokens):
        lines = []
        for row in rows:
            lines.append([dictionary[token] for token in row])
        texts.append(lines)
    scores = translator.score_batch(*texts)
    difference = (torch.tensor([score.log_probs for score in scores]) - expected).abs()
    logger.info(
        "CTranslate2 (%s): log-probabilities of %d made-up tokens differ by %.1e on average, "
        "%.1e at most",
        translator.compute_type, difference.numel(), difference.mean(), difference.max(),
    )  # fmt: skip
    # not >: NaN is not within the limit
    if limit is not None and not difference.max() <= limit:
        raise AdminError(
            "CTranslate2 computes something else than the folded model: a log-probability differs "
            f"by {difference.max():.1e}. Nothing was written. Please report it with the training's "
            "flags"
        )


def _made_up_sentences(
    words: Sequence[Dictionary], sentences: int, length: int
) -> list[torch.Tensor]:
    """Return tokens of source and target, B x T each, without special symbols."""
    generator = torch.Generator().manual_seed(1)
    tokens = []
    for dictionary in words:
        shape = (sentences, length)
        least, most = dictionary.nspecial, len(dictionary)
        tokens.append(torch.randint(least, most, shape, generator=generator))
    return tokens


def _log_probabilities(
    folded: Folded, words: Sequence[Dictionary], tokens: Sequence[torch.Tensor]
) -> torch.Tensor:
    """Return what the folded model gives each target token and the end, B x (T + 1)."""
    source, target = tokens
    sentences, length = source.shape
    eos = torch.full((sentences, 1), words[1].eos())
    model = build_stock(folded.args, *words)
    model.load_state_dict(folded.weights)
    logits = model.eval()(
        torch.cat([source, eos], 1),
        torch.full((sentences,), length + 1),
        torch.cat([eos, target], 1),
    )[0]
    predicted = torch.cat([target, eos], 1)[..., None]
    return logits.log_softmax(-1).gather(-1, predicted)[..., 0]
