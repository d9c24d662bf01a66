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
# of bytes, as perl -p reads them: a character of several bytes may end one match and begin the next
_HYPHEN = re.compile(rb"(\S)-(\S)")
_JOINED = " @-@ "  # what tokenizer.perl -a makes of a hyphen inside of a word
_ENTITY = re.compile("&(?:amp|lt|gt|apos|quot|#124|#91|#93);")
_BARE = re.compile("['\"<>|\\[\\]]")  # what tokenizer.perl escapes, beside &


@dataclass
class Score:
    """One number: its column in results.tsv, its name, value, and sacreBLEU's signature."""

    column: str
    name: str
    value: float
    signature: str


def split_compounds(text: str) -> str:
    """Return tokenised text with compounds split at hyphens: ``a-b`` -> ``a ##AT##-##AT## b``.

    As tensor2tensor's get_ende_bleu.sh, with which En-De is scored in many papers. It works on text
    tokenised without ``-a``, so the ``@-@`` of text tokenised with it are joined first: split as
    they are, each would be three sure matches, and BLEU too high (fairseq's
    compound_split_bleu.sh on such text). Its pattern takes the letters at both sides of a hyphen
    with it: the single letter of ``a-b-c`` splits once.
    """
    joined = text.replace(_JOINED, "-").encode("utf-8")
    return _HYPHEN.sub(rb"\1 ##AT##-##AT## \2", joined).decode("utf-8")


def is_escaped(tokenised: Sequence[str], raw: Sequence[str]) -> bool:
    """Whether tokenised texts have ``&apos;`` for ``'`` and so on, as tokenizer.perl makes them.

    That is: no bare special character, and more entities than the raw texts have.
    """
    if any(_BARE.search(text) for text in tokenised):
        return False
    counts = [sum(len(_ENTITY.findall(text)) for text in side) for side in (tokenised, raw)]
    return counts[0] > counts[1]


def detokenise(texts: Sequence[str], lang: str, unescape: bool = False) -> list[str]:
    """Return Moses-tokenised texts as running text; ``unescape``: ``&apos;`` becomes ``'``."""
    detokenizer = MosesDetokenizer(lang)
    # text that was tokenised without escapes keeps its &amp;, which is its own
    return [detokenizer.detokenize(text.split(), unescape=unescape) for text in texts]


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
    texts = detokenise(hypotheses, lang, is_escaped(tokenised_references, raw_references))
    for column, name, metric in (
        ("sacrebleu", "sacreBLEU", BLEU(lowercase=lowercase)),
        ("chrf", "chrF", CHRF(lowercase=lowercase)),
    ):
        found.append(score(column, name, metric, texts, raw_references))
    return found
