"""The papers' numbers: the ``[published]`` section of a recipe file."""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from .values import DEPTH

VALUE = re.compile(r"(?P<number>\d+(\.\d+)?( ± \d+(\.\d+)?)?|failed), (?P<source>\S.*)")
EXPECTED = "INIT-TYPE DEPTH = NUMBER [± SD] or failed, SOURCE"


@dataclass(frozen=True)
class Published:
    """One number as it was printed, such as ``35.64 ± 0.23`` or ``failed``, and its source."""

    number: str
    source: str


def read_section(
    section: Mapping[str, str],
) -> tuple[dict[tuple[str, str], Published], list[str]]:
    """Return (init type, depth) -> :class:`Published`, and what is wrong in the section."""
    found: dict[tuple[str, str], Published] = {}
    problems = []
    for key, text in section.items():
        if key == "measure":
            continue
        init_type, _, depth = key.partition(" ")
        match = VALUE.fullmatch(text)
        if not match or not DEPTH.fullmatch(depth):
            problems.append(f"[published] {key} = {text}: must be {EXPECTED}")
            continue
        if (init_type, depth) in found:
            problems.append(f"[published] {key}: {init_type} {depth} appears twice")
        found[init_type, depth] = Published(match["number"], match["source"])
    return found, problems
