"""Joint BPE: word counts, merges, and text split by them (subword-nmt)."""

import collections
import functools
from collections.abc import Callable, Sequence
from pathlib import Path

from ...errors import AdminError
from .merges import learn_merges
from .parallel import in_child
from .progress import shown
from .slices import Slice, slices
from .stages import Output, Stages
from .text import segment_lines


def learn(stages: Stages, texts: Sequence[str], merges: int) -> str:
    """Make bpe/vocabulary (word counts of the texts), and bpe/codes.N of it.

    Counting first, in a stage of its own, gives what ``subword-nmt learn-bpe`` gives on the texts.
    Memory grows with the number of different words, not of lines.

    Returns:
        The path of the codes, relative to the folder of the stages.
    """
    count = functools.partial(_count, stages, texts)
    stages.run("vocabulary", texts, ["bpe/vocabulary"], {}, count)
    codes = f"bpe/codes.{merges}"
    make = functools.partial(_learn, stages, merges)
    stages.run(f"codes-{merges}", ["bpe/vocabulary"], [codes], {"merges": merges}, make)
    return codes


def _count(stages: Stages, texts: Sequence[str], output: Output) -> None:
    # in this process: sending what each slice holds takes longer than counting it
    total: collections.Counter[str] = collections.Counter()  # in the order of the texts
    for path in texts:
        parts = slices(stages.folder / path)
        for part in shown(parts, f"count words of {path}", stages.lines(path), lines=Slice.count):
            total.update(_words(part))
    total.pop("", None)
    output.write("".join([f"{word} {count}\n" for word, count in total.items()]))


def _words(part: Slice) -> list[str]:
    """Return the words of a slice as subword-nmt takes them, and empty ones."""
    text = part.read()
    if "\r" not in text:
        return text.replace("\n", " ").split(" ")
    words = []
    for line in text.split("\n"):
        words += line.strip("\r ").split(" ")
    return words


def _learn(stages: Stages, merges: int, output: Output) -> None:
    output.write(in_child(_learned, stages.folder / "bpe" / "vocabulary", merges))


def _learned(vocabulary: Path, merges: int) -> str:
    """Return the text of the codes; learning keeps every word in memory, several times."""
    counts = {}
    with open(vocabulary, encoding="utf-8", newline="\n") as file:
        for line in file:
            word, _, count = line.rpartition(" ")
            counts[word] = int(count)
    try:
        found = learn_merges(counts, merges)
    except ValueError:
        raise AdminError(
            f"bpe/codes.{merges}: there is nothing to merge in so little text"
        ) from None
    return "".join(["#version: 0.2\n", *(f"{first} {second}\n" for first, second in found)])


def segmenter(stages: Stages, codes: str) -> Callable[[list[str]], list[str]]:
    """Return a function of a list of lines that splits them by the codes."""
    return functools.partial(segment_lines, str(stages.folder / codes), stages.sha256(codes))
