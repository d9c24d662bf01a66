"""One line of text at a time: tokenise, BPE. What worker processes run."""

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sacremoses import MosesPunctNormalizer, MosesTokenizer
from subword_nmt.apply_bpe import BPE

from . import moses

# words that were split are remembered: all are forgotten at this many, to bound memory
_REMEMBERED_WORDS = 200_000
_BLANK = "\r\n "  # what subword-nmt leaves as it is around a line


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


class _Split(dict[str, str]):
    """A word -> its pieces with spaces between them; words are split when they are looked up."""

    def __init__(self, codes: str) -> None:
        super().__init__()
        with open(codes, encoding="utf-8") as file:
            self._bpe = BPE(file)

    def __missing__(self, word: str) -> str:
        self[word] = pieces = " ".join(self._bpe.segment_tokens([word]))
        self._bpe.cache.clear()  # it is remembered here
        return pieces


@functools.lru_cache(maxsize=1)
def _split(codes: str, digest: str) -> _Split:
    """Return the words that were split; the digest: other codes at the same path split others."""
    return _Split(codes)


def segment_lines(codes: str, digest: str, lines: Sequence[str]) -> list[str]:
    """Return lines split by BPE codes, as ``subword-nmt apply-bpe`` does.

    Args:
        codes: the path of the codes.
        digest: their checksum.
        lines: tokens with spaces between them.
    """
    split = _split(codes, digest)
    made = []
    for line in lines:
        text = line.strip(_BLANK)
        words = text.split(" ")
        if "" in words:  # of a blank line, or between two spaces
            words = [word for word in words if word]
        pieces = " ".join(map(split.__getitem__, words))
        if len(text) < len(line):
            pieces = _with_blanks(line, text, pieces)
        made.append(pieces)
        if len(split) > _REMEMBERED_WORDS:
            split.clear()
    return made


def _with_blanks(line: str, text: str, pieces: str) -> str:
    """Return pieces with what stood before and after the text of a line."""
    before = len(line) - len(line.lstrip(_BLANK))
    after = line[before + len(text) :]
    return line[:before] + pieces + after
