"""One line of text at a time: tokenise, filter, BPE. What worker processes run."""

import functools
import unicodedata
from dataclasses import dataclass

from sacremoses import MosesPunctNormalizer, MosesTokenizer
from subword_nmt.apply_bpe import BPE

# a word that subword-nmt has split once is remembered; forgotten at this many, so that memory stays bounded
REMEMBERED_WORDS = 200_000
LONGEST_WORD = 1000  # characters; Moses' clean-corpus-n.perl drops lines with longer ones


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
def _moses(lang):
    return MosesPunctNormalizer(lang), MosesTokenizer(lang)


def tokenise(how, line):
    """Return the tokens of a line as one line. Special characters are not escaped, unlike in tokenizer.perl:
    ``'`` is no ``&apos;``. Escaping changes no token boundary."""
    normaliser, tokeniser = _moses(how.lang)
    if how.apostrophes:
        line = line.replace("\u2019", "'")
    if how.normalise:
        line = normaliser.normalize(line)
    if how.printable:
        line = without_nonprinting(line)
    line = tokeniser.tokenize(
        line, aggressive_dash_splits=how.aggressive, return_str=True, escape=False
    )
    return line.lower() if how.lowercase else line


def without_nonprinting(line):
    """Return the line with every character of a category C* (control, format, private, unassigned) as a space."""
    if line.isprintable():
        return line
    return "".join(" " if unicodedata.category(letter)[0] == "C" else letter for letter in line)


def tokenise_lines(how, lines):
    return [tokenise(how, line) for line in lines]


def keeps(source, target, length, ratio):
    """Whether Moses' clean-corpus-n keeps a pair: lengths in tokens, longer : shorter at most ``ratio``."""
    source, target = source.split(), target.split()
    low, high = length
    if not (low <= len(source) <= high and low <= len(target) <= high):
        return False
    if len(source) > ratio * len(target) or len(target) > ratio * len(source):
        return False
    return max(map(len, source + target), default=0) <= LONGEST_WORD


@functools.lru_cache(maxsize=1)
def _bpe(codes, digest):  # the digest: other codes at the same path are another BPE
    with open(codes, encoding="utf-8") as file:
        return BPE(file)


def segment_lines(codes, digest, lines):
    """Return lines split by the BPE codes of a file, as ``subword-nmt apply-bpe`` does."""
    bpe = _bpe(codes, digest)
    if len(bpe.cache) > REMEMBERED_WORDS:
        bpe.cache.clear()
    return [bpe.process_line(line) for line in lines]
