"""Reading text files line by line, and telling how far a stage is."""

import logging
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Optional, TypeVar

log = logging.getLogger(__name__)
_Item = TypeVar("_Item")
_EVERY = 10.0  # seconds


def read_lines(path: Path) -> Iterator[str]:
    """Yield the lines of a text file without their line feeds."""
    with open(path, encoding="utf-8", newline="\n") as file:
        for line in file:
            yield line.rstrip("\n")


def shown(
    items: Iterable[_Item],
    name: str,
    total: Optional[int] = None,
    lines: Callable[[_Item], int] = lambda _: 1,
) -> Iterator[_Item]:
    """Yield the items, and log every few seconds, and at the end, how many lines and how fast.

    Args:
        items: lines, or what is made of several.
        name: what is being done.
        total: lines that there will be.
        lines: how many lines an item is.
    """
    started = told = time.monotonic()
    count = 0
    for item in items:
        yield item
        count += lines(item)
        now = time.monotonic()
        if now - told > _EVERY:
            told = now
            share = f" of {total:,}" if total else ""
            log.info(
                "%s: %s%s lines, %s lines/s",
                name,
                f"{count:,}",
                share,
                f"{count / (told - started):,.0f}",
            )
    seconds = time.monotonic() - started
    log.info("%s: %s lines, %s lines/s", name, f"{count:,}", f"{count / max(seconds, 1e-9):,.0f}")
