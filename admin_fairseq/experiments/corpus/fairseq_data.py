"""The data-bin of texts as fairseq-preprocess makes it, byte for byte, without fairseq.

fairseq takes 2.7 us for a token, and its processes wait for each other. Here each process splits
slices of the texts, and looks up all tokens of a slice at once. What is the same (fairseq 0.12.2
to 0.12.4): which words there are, and their order (``Dictionary.finalize``); what ends a line, and
what a word (``tokenize_line``); the files (``MMapIndexedDataset``).
"""

import collections
import functools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..mmap_index import HEADER, MAGIC, TYPES, VERSION
from .parallel import ordered_map
from .progress import shown
from .slices import Slice, slices

SPECIAL = ("<s>", "<pad>", "</s>", "<unk>")  # the first of every dictionary, in no file
_EOS, _UNKNOWN = 2, 3
_FACTOR = 8  # --padding-factor: a dictionary's size is a multiple of it
_SIZE = 1 << 20  # bytes of a slice
_LINE_END = "\ud800"  # half a surrogate pair: nothing that was decoded has it
_AT_LINE_END = -1
_TOO_MANY_FOR_16_BITS = 65500  # types: from here on fairseq stores a number in four bytes
_NUMBERS = {name: number for number, name in TYPES.items()}
_Array = np.ndarray[Any, Any]


# --- words


def _words(part: Slice) -> list[str]:
    """Return the words of a slice, and a mark after those of each line.

    fairseq reads with Python's universal line ends, so that a carriage return ends a line, and
    parts words at whatever ``str.split`` parts them.
    """
    text = part.read()
    if "\r" in text:
        text = text.replace("\r\n", "\n").replace("\r", "\n")
    if not text.endswith("\n"):
        text += "\n"  # the last line of a file without one
    return text.replace("\n", f" {_LINE_END} ").split()


def _count(part: Slice) -> collections.Counter[str]:
    return collections.Counter(_words(part))


def count_words(paths: Iterable[Path], jobs: int) -> dict[str, int]:
    """Return word -> how often it is in the texts; the log tells lines a second.

    Raises:
        AdminError: if a worker process is killed.
        UnicodeDecodeError: if a text is not UTF-8.
    """
    total: collections.Counter[str] = collections.Counter()
    for path in paths:
        counters = ordered_map(_count, slices(path, _SIZE), jobs)
        for counter in shown(counters, f"dictionary, {path.name}", lines=_line_ends):
            total.update(counter)
    del total[_LINE_END]
    return dict(total)


def _line_ends(counter: Mapping[str, int]) -> int:
    return counter[_LINE_END]


# --- the dictionary


def dictionary_lines(counts: Mapping[str, int]) -> list[tuple[str, int]]:
    """Return the words of a dictionary and their counts, in fairseq's order.

    The most frequent come first, of the same count the first by code points; then made-up words
    that fill it up to a multiple of eight.
    """
    words = sorted(word for word in counts if word not in SPECIAL)
    words.sort(key=lambda word: -counts[word])  # keeps the order of those of the same count
    lines = [(word, counts[word]) for word in words]
    number = 0
    while (len(SPECIAL) + len(lines)) % _FACTOR:
        filler = f"madeupword{number:04d}"
        if filler not in counts:
            lines.append((filler, 0))
        number += 1
    return lines


def write_dictionary(path: Path, lines: Sequence[tuple[str, int]]) -> None:
    """Write a dict.LANG.txt."""
    text = "".join(f"{word} {count}\n" for word, count in lines)
    path.write_bytes(text.encode("utf-8"))


class _Ids(dict[str, int]):
    """Word -> its number; any other word is the unknown one."""

    def __missing__(self, word: str) -> int:
        return _UNKNOWN


@functools.lru_cache(maxsize=1)  # read once a process
def _read_ids(dictionary: Path, modified: int) -> _Ids:
    ids = _Ids()
    for word in SPECIAL:
        ids[word] = len(ids)
    with open(dictionary, encoding="utf-8", newline="\n") as file:
        for line in file:
            ids[line.rpartition(" ")[0]] = len(ids)
    ids[_LINE_END] = _AT_LINE_END
    return ids


# --- sentences


@dataclass(frozen=True)
class Sentences:
    """Sentences, end after end.

    Attributes:
        ids: of all words, and of the end of each sentence.
        sizes: how many there are in each.
        unknown: how many of the words are not in the dictionary.
    """

    ids: _Array
    sizes: _Array
    unknown: int


def encode(dictionary: Path, modified: int, part: Slice) -> Sentences:
    """Return the sentences of a slice.

    Args:
        dictionary: a dict.LANG.txt.
        modified: its time, so that another one at the same path is read anew.
        part: of a text.
    """
    ids_of = _read_ids(dictionary, modified)
    words = _words(part)
    ids = np.fromiter(map(ids_of.__getitem__, words), np.int32, len(words))
    ends = np.flatnonzero(ids == _AT_LINE_END)
    ids[ends] = _EOS
    unknown = int(np.count_nonzero(ids == _UNKNOWN))
    if unknown:
        unknown -= words.count(SPECIAL[_UNKNOWN])
    types = len(ids_of) - 1
    sizes = np.diff(ends, prepend=-1).astype(np.int32)
    return Sentences(ids.astype(number_type(types)), sizes, unknown)


def number_type(types: int) -> np.dtype[Any]:
    """Return the type in which fairseq stores the numbers of so many types of words."""
    return np.dtype(np.uint16 if types < _TOO_MANY_FOR_16_BITS else np.uint32)


def write_sentences(prefix: Path, sentences: Iterable[Sentences], types: int) -> tuple[int, int]:
    """Write PREFIX.bin and PREFIX.idx; return how many sentences there are, and numbers in all."""
    dtype, sizes = number_type(types), [np.zeros(0, np.int32)]
    with open(f"{prefix}.bin", "wb") as file:
        for some in sentences:
            file.write(some.ids.tobytes())
            sizes.append(some.sizes)
    lengths = np.concatenate(sizes)
    ends = np.cumsum(lengths, dtype=np.int64)
    with open(f"{prefix}.idx", "wb") as file:
        file.write(HEADER.pack(MAGIC, VERSION, _NUMBERS[dtype.name], len(lengths)))
        file.write(lengths.tobytes())
        file.write(((ends - lengths) * dtype.itemsize).tobytes())
    return len(lengths), int(ends[-1]) if len(ends) else 0


# --- all of it


def preprocess(
    folder: Path, languages: Sequence[str], texts: Mapping[str, Mapping[str, Path]], jobs: int
) -> dict[tuple[str, str], int]:
    """Fill a folder as ``fairseq-preprocess --joined-dictionary`` does.

    Args:
        folder: data-bin; it is made.
        languages: source and target.
        texts: subset (train, valid, test, test1 and so on) -> language -> its text.
        jobs: processes.

    Returns:
        (subset, language) -> how many sentences were written.

    Raises:
        AdminError: if a worker process is killed.
        UnicodeDecodeError: if a text is not UTF-8.
    """
    folder.mkdir(parents=True)
    counts = count_words(texts["train"].values(), jobs)
    dictionary = dictionary_lines(counts)
    types = len(SPECIAL) + len(dictionary)
    told = [
        f"as fairseq-preprocess --joined-dictionary --source-lang {languages[0]} "
        f"--target-lang {languages[1]} makes it"
    ]
    for lang in languages:
        write_dictionary(folder / f"dict.{lang}.txt", dictionary)
    written = {}
    for lang in languages:
        path = folder / f"dict.{lang}.txt"
        look_up = functools.partial(encode, path, path.stat().st_mtime_ns)
        for subset, sides in texts.items():
            prefix = folder / f"{subset}.{languages[0]}-{languages[1]}.{lang}"
            unknown: list[int] = []
            parts = ordered_map(look_up, slices(sides[lang], _SIZE), jobs)
            made = shown(parts, f"binarise {subset}.{lang}", lines=_sentences)
            count, numbers = write_sentences(prefix, _noted(made, unknown), types)
            written[subset, lang] = count
            told += [f"[{lang}] Dictionary: {types} types"]
            told += [f"[{lang}] {sides[lang]}: {_summary(count, numbers, sum(unknown))}"]
    told += [f"Wrote preprocessed data to {folder}", ""]
    (folder / "preprocess.log").write_text("\n".join(told), encoding="utf-8")
    return written


def _sentences(some: Sentences) -> int:
    return len(some.sizes)


def _noted(parts: Iterable[Sentences], unknown: list[int]) -> Iterator[Sentences]:
    for part in parts:
        unknown.append(part.unknown)
        yield part


def _summary(sentences: int, numbers: int, unknown: int) -> str:
    text = f"{sentences} sents, {numbers} tokens"
    if sentences:
        text += f", {100 * unknown / numbers:.3}% replaced"
    return f"{text} (by {SPECIAL[_UNKNOWN]})"
