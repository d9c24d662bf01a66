"""Texts in slices of whole lines, so that processes read their own share of a file."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

SIZE = 1 << 18  # bytes of a slice, and what it takes to end a line


@dataclass(frozen=True)
class Slice:
    """Lines of a file, from one byte to before another; both begin a line, or are the ends."""

    path: Path
    start: int
    end: int

    def read(self) -> str:
        """Return the text.

        Raises:
            UnicodeDecodeError: if it is not UTF-8.
        """
        with open(self.path, "rb") as file:
            file.seek(self.start)
            return file.read(self.end - self.start).decode("utf-8")

    def count(self) -> int:
        """Return the number of its lines."""
        with open(self.path, "rb") as file:
            file.seek(self.start)
            return file.read(self.end - self.start).count(b"\n")

    def lines(self) -> list[str]:
        """Return the lines without their line feeds, which alone end a line."""
        lines = self.read().split("\n")
        if not lines[-1]:
            lines.pop()
        return lines


def slices(path: Path, size: int = SIZE) -> Iterator[Slice]:
    """Yield a file in slices of about ``size`` bytes; none of an empty file."""
    start = 0
    with open(path, "rb") as file:
        length = file.seek(0, 2)
        while start < length:
            file.seek(min(start + size, length) - 1)  # the slice may end with a line as it is
            file.readline()
            yield Slice(path, start, file.tell())
            start = file.tell()


def convert_slice(convert: Callable[[list[str]], list[str]], part: Slice) -> str:
    """Return the text of the lines that ``convert`` makes of the lines of a slice."""
    lines = convert(part.lines())
    lines.append("")
    return "\n".join(lines)
