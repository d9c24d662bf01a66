"""One line of text at a time: tokenise, filter, BPE. What worker processes run."""

import functools
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sacremoses import MosesPunctNormalizer, MosesTokenizer
from subword_nmt.apply_bpe import BPE

# subword-nmt remembers each word that it has split: all are forgotten at this many, to bound memory
_REMEMBERED_WORDS = 200_000
_LONGEST_WORD = 1000  # characters; Moses' clean-corpus-n.perl drops lines with longer ones


@dataclass(frozen=True)
class Tokenising:
    """How the lines of one subset and language are tokenised, in this order."""

    lang: str
    apostrophes: bool = False  # curly to straight
    normalise: bool = False  # Moses' punctuation normalisation
    printable: bool = False  # non-printing characters to spaces
    aggressive: bool = False  # split at hyphens: @-@
    lowercase: bool = False


@functools.lru_cache(maxsize=4)  # built once a process
def _moses(lang: str) -> tuple[Any, Any]:
    return MosesPunctNormalizer(lang), MosesTokenizer(lang)


def tokenise(how: Tokenising, line: str) -> str:
    """Return the tokens of a line as one line.

    Special characters are not escaped, unlike in tokenizer.perl: ``'`` does not become
    ``&apos;``. Escaping changes no token boundary.
    """
    normaliser, tokeniser = _moses(how.lang)
    if how.apostrophes:
        line = line.replace("\u2019", "'")
    if how.normalise:
        line = normaliser.normalize(line)
    if how.printable:
        line = without_nonprinting(line)
    tokens: str = tokeniser.tokenize(
        line, aggressive_dash_splits=how.aggressive, return_str=True, escape=False
    )
    return tokens.lower() if how.lowercase else tokens


def without_nonprinting(line: str) -> str:
    """Return the line with each control, format, private or unassigned character as a space."""
    if line.isprintable():
        return line
    letters = []
    for letter in line:
        letters.append(" " if unicodedata.category(letter).startswith("C") else letter)
    return "".join(letters)


def tokenise_lines(how: Tokenising, lines: Sequence[str]) -> list[str]:
    """Return the lines tokenised."""
    return [tokenise(how, line) for line in lines]


def keeps(source: str, target: str, length: tuple[int, int], ratio: float) -> bool:
    """Whether Moses' clean-corpus-n.perl keeps a pair.

    Args:
        source: a tokenised sentence.
        target: its translation.
        length: the least and the most tokens of a side.
        ratio: how many times longer one side may be than the other.
    """
    left, right = source.split(), target.split()
    low, high = length
    if not (low <= len(left) <= high and low <= len(right) <= high):
        return False
    if len(left) > ratio * len(right) or len(right) > ratio * len(left):
        return False
    return max(map(len, left + right), default=0) <= _LONGEST_WORD


@functools.lru_cache(maxsize=1)
def _bpe(
    codes: str, digest: str
) -> Any:  # the digest: other codes at the same path are another BPE
    with open(codes, encoding="utf-8") as file:
        return BPE(file)


def segment_lines(codes: str, digest: str, lines: Sequence[str]) -> list[str]:
    """Return lines split by BPE codes, as ``subword-nmt apply-bpe`` does.

    Args:
        codes: the path of the codes.
        digest: their checksum.
        lines: tokens with spaces between them.
    """
    bpe = _bpe(codes, digest)
    if len(bpe.cache) > _REMEMBERED_WORDS:
        bpe.cache.clear()
    return [bpe.process_line(line) for line in lines]
