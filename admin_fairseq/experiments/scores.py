"""The numbers that people mix up, each with its signature: :func:`scores`."""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass

from sacrebleu.metrics import BLEU, CHRF
from sacrebleu.metrics.base import Metric
from sacremoses import MosesDetokenizer

# a model that failed puts out bare full stops, of which sacreBLEU warns as tokenised text
logging.getLogger("sacrebleu").setLevel(logging.ERROR)
# a hyphen between two characters of words; lookarounds, so that the a-b-c of one compound splits
# twice
_HYPHEN = re.compile(r"(?<=\S)-(?=\S)")


@dataclass
class Score:
    """One number: its column in results.tsv, its name, value, and sacreBLEU's signature."""

    column: str
    name: str
    value: float
    signature: str


def split_compounds(text: str) -> str:
    """Return tokenised text with compounds split at hyphens: ``a-b`` -> ``a ##AT##-##AT## b``.

    The rule of tensor2tensor's get_ende_bleu.sh, with which En-De is scored in most papers: it
    raises BLEU.
    """
    return _HYPHEN.sub(" ##AT##-##AT## ", text)


def detokenise(texts: Sequence[str], lang: str) -> list[str]:
    """Return Moses-tokenised texts as running text."""
    detokenizer = MosesDetokenizer(lang)
    # the corpora are tokenised without escapes: &amp; in them is the text's own
    return [detokenizer.detokenize(text.split(), unescape=False) for text in texts]


def scores(
    hypotheses: Sequence[str],
    tokenised_references: Sequence[str],
    raw_references: Sequence[str],
    lang: str,
    lowercase: bool = False,
    compounds: bool = False,
) -> list[Score]:
    """Return the scores of a translation.

    Args:
        hypotheses: tokenised, without BPE, as fairseq prints them.
        tokenised_references: as fairseq prints them.
        raw_references: the text as published.
        lang: the target language.
        lowercase: the model was trained on lowercased text: detokenised scores ignore case.
        compounds: score with split compounds too.
    """

    def score(
        column: str, name: str, metric: Metric, texts: Sequence[str], references: Sequence[str]
    ) -> Score:
        value = metric.corpus_score(texts, [references]).score
        return Score(column, name, value, str(metric.get_signature()))

    def tokenised_bleu() -> BLEU:
        # force: sacreBLEU warns of text that is tokenised already
        return BLEU(tokenize="none", force=True)

    found = [score("bleu", "tokenised BLEU", tokenised_bleu(), hypotheses, tokenised_references)]
    if compounds:
        split = [split_compounds(text) for text in hypotheses]
        split_references = [split_compounds(text) for text in tokenised_references]
        found.append(score("bleu_split", "split BLEU", tokenised_bleu(), split, split_references))
    texts = detokenise(hypotheses, lang)
    for column, name, metric in (
        ("sacrebleu", "sacreBLEU", BLEU(lowercase=lowercase)),
        ("chrf", "chrF", CHRF(lowercase=lowercase)),
    ):
        found.append(score(column, name, metric, texts, raw_references))
    return found
