"""One line of text at a time: tokenise, BPE. What worker processes run."""

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sacremoses import MosesPunctNormalizer, MosesTokenizer
from subword_nmt.apply_bpe import BPE

from . import moses

# subword-nmt remembers each word that it has split: all are forgotten at this many, to bound memory
_REMEMBERED_WORDS = 200_000


@dataclass(frozen=True)
class Tokenising:
    """How the lines of one subset and language are tokenised, in this order."""

    lang: str
    apostrophes: bool = False  # curly to straight
    normalise: bool = False  # Moses' punctuation normalisation
    printable: bool = False  # non-printing characters to spaces
    aggressive: bool = False  # split at hyphens: @-@
    lowercase: bool = False
    tokeniser: str = "sacremoses"  # or moses: to the character what the Perl scripts make
    escape: bool = False  # of moses: ' becomes &apos; and so on


@functools.lru_cache(maxsize=4)  # built once a process
def _sacremoses(lang: str) -> tuple[Any, Any]:
    return MosesPunctNormalizer(lang), MosesTokenizer(lang)


@functools.lru_cache(maxsize=4)
def _tokenizer_perl(lang: str, aggressive: bool, escape: bool) -> moses.Tokenizer:
    return moses.Tokenizer(lang, aggressive, escape)


def tokenise(how: Tokenising, line: str) -> str:
    """Return the tokens of a line as one line."""
    if how.apostrophes:
        line = line.replace("\u2019", "'")
    if how.tokeniser == "moses":
        return _as_perl(how, line)
    normaliser, tokeniser = _sacremoses(how.lang)
    if how.normalise:
        line = normaliser.normalize(line)
    if how.printable:
        line = moses.remove_non_printing(line)
    tokens: str = tokeniser.tokenize(
        line, aggressive_dash_splits=how.aggressive, return_str=True, escape=False
    )
    return tokens.lower() if how.lowercase else tokens


def _as_perl(how: Tokenising, line: str) -> str:
    if how.normalise:
        line = moses.normalize_punctuation(line, how.lang)
    if how.printable:
        line = moses.remove_non_printing(line)
    line = _tokenizer_perl(how.lang, how.aggressive, how.escape).tokenize(line)
    # only a blank line, which stays as it is, can have one left; Python ends a line there
    line = line.replace("\r", "")
    return moses.lowercase(line) if how.lowercase else line


def tokenise_lines(how: Tokenising, lines: Sequence[str]) -> list[str]:
    """Return the lines tokenised."""
    return [tokenise(how, line) for line in lines]


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
