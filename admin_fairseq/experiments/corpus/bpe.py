"""Joint BPE: word counts, merges, and text split by them (subword-nmt)."""

import collections
import contextlib
import functools
import io
import sys

from subword_nmt.learn_bpe import learn_bpe

from ...errors import AdminError
from .parallel import in_child
from .progress import read_lines, shown
from .text import segment_lines


def learn(stages, texts, merges):
    """Make bpe/vocabulary (word counts of the texts) and bpe/codes.N of it; return the path of the codes.

    Counting first, in a stage of its own, gives what ``subword-nmt learn-bpe`` gives on the texts. Memory grows
    with the number of different words, not of lines.
    """
    stages.run(
        "vocabulary", texts, ["bpe/vocabulary"], {}, functools.partial(_count, stages, texts)
    )
    codes = f"bpe/codes.{merges}"
    settings = {"merges": merges}
    stages.run(
        f"codes-{merges}",
        ["bpe/vocabulary"],
        [codes],
        settings,
        functools.partial(_learn, stages, merges),
    )
    return codes


def _count(stages, texts, output):
    counter = collections.Counter()
    for path in texts:
        for line in shown(
            read_lines(stages.folder / path), f"count words of {path}", stages.lines(path)
        ):
            counter.update(line.strip("\r\n ").split(" "))
    counter.pop("", None)
    for word, count in counter.items():
        output.line(f"{word} {count}")


def _learn(stages, merges, output):
    output.write(in_child(_learned, stages.folder / "bpe", merges))


def _learned(folder, merges):
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


def segmenter(stages, codes):
    """Return a function of a list of lines that splits them by the codes."""
    return functools.partial(
        segment_lines, str(stages.folder / codes), stages.identities[codes]["sha256"]
    )
