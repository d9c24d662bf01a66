"""Joint BPE: word counts, merges, and text split by them (subword-nmt)."""

import collections
import contextlib
import functools
import io
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from subword_nmt.learn_bpe import learn_bpe

from ...errors import AdminError
from .parallel import in_child
from .progress import read_lines, shown
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
    counter: collections.Counter[str] = collections.Counter()
    for path in texts:
        lines = read_lines(stages.folder / path)
        for line in shown(lines, f"count words of {path}", stages.lines(path)):
            counter.update(line.strip("\r\n ").split(" "))
    counter.pop("", None)
    for word, count in counter.items():
        output.line(f"{word} {count}")


def _learn(stages: Stages, merges: int, output: Output) -> None:
    output.write(in_child(_learned, stages.folder / "bpe", merges))


def _learned(folder: Path, merges: int) -> str:
    """Return the text of the codes; learn_bpe keeps every word in memory, several times."""
    codes = io.StringIO()
    with contextlib.ExitStack() as stack:
        vocabulary = stack.enter_context(
            open(folder / "vocabulary", encoding="utf-8", newline="\n")
        )
        if not sys.stderr.isatty():  # its progress bar is for people
            log_file = stack.enter_context(
                open(folder / f"codes.{merges}.log", "w", encoding="utf-8")
            )
            stack.enter_context(contextlib.redirect_stderr(log_file))
        try:
            learn_bpe(vocabulary, codes, merges, is_dict=True)
        except ValueError:
            raise AdminError(
                f"bpe/codes.{merges}: there is nothing to merge in so little text"
            ) from None
    return codes.getvalue()


def segmenter(stages: Stages, codes: str) -> Callable[[list[str]], list[str]]:
    """Return a function of a list of lines that splits them by the codes."""
    return functools.partial(segment_lines, str(stages.folder / codes), stages.sha256(codes))
