"""The numbers that people mix up, each with its signature. ``scores(...) -> [Score]``."""

import logging
import re
from dataclasses import dataclass

from sacrebleu.metrics import BLEU, CHRF
from sacremoses import MosesDetokenizer

logging.getLogger("sacrebleu").setLevel(
    logging.ERROR
)  # a model that failed puts out bare full stops
# a hyphen between two characters of words; lookarounds, so that the a-b-c of one compound splits twice
HYPHEN = re.compile(r"(?<=\S)-(?=\S)")


@dataclass
class Score:
    """One number: its column in results.tsv, its name, value, and sacreBLEU's signature."""

    column: str
    name: str
    value: float
    signature: str


def split_compounds(text):
    """Return tokenised text with compounds split at hyphens: ``a-b`` -> ``a ##AT##-##AT## b``.

    The rule of tensor2tensor's get_ende_bleu.sh, with which En-De is scored in most papers: it raises BLEU.
    """
    return HYPHEN.sub(" ##AT##-##AT## ", text)


def detokenise(texts, lang):
    """Return Moses-tokenised texts as running text."""
    detokenizer = MosesDetokenizer(lang)
    return [detokenizer.detokenize(text.split(), unescape=False) for text in texts]


def scores(
    hypotheses, tokenised_references, raw_references, lang, lowercase=False, compounds=False
):
    """Return the :class:`Score` list of a translation.

    Args:
        hypotheses: tokenised, without BPE, as fairseq prints them.
        tokenised_references: as fairseq prints them.
        raw_references: the text as published.
        lang: the target language.
        lowercase: the model was trained on lowercased text: detokenised scores ignore case.
        compounds: score with split compounds too.
    """
    texts = detokenise(hypotheses, lang)
    wanted = [
        (
            "bleu",
            "tokenised BLEU",
            BLEU(tokenize="none", force=True),
            hypotheses,
            tokenised_references,
        )
    ]
    if compounds:
        both = [
            [split_compounds(text) for text in side] for side in (hypotheses, tokenised_references)
        ]
        wanted.append(("bleu_split", "split BLEU", BLEU(tokenize="none", force=True), *both))
    wanted += [
        ("sacrebleu", "sacreBLEU", BLEU(lowercase=lowercase), texts, raw_references),
        ("chrf", "chrF", CHRF(lowercase=lowercase), texts, raw_references),
    ]
    found = []
    for column, name, metric, hypothesis, reference in wanted:
        value = metric.corpus_score(hypothesis, [reference]).score
        found.append(Score(column, name, value, str(metric.get_signature())))
    return found
