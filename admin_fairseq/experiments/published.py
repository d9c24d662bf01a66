"""The papers' numbers: the ``[published]`` section of a recipe file."""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from ..errors import AdminError
from ..init_types import find_method
from .values import DEPTH

_VALUE = re.compile(r"(?P<number>\d+(\.\d+)?( ± \d+(\.\d+)?)?|failed), (?P<source>\S.*)")
_EXPECTED = "INIT-TYPE DEPTH = NUMBER [± SD] or failed, SOURCE[; settings unknown]"
_UNKNOWN = "; settings unknown"


@dataclass(frozen=True)
class Published:
    """One number as it was printed, such as ``35.64 ± 0.23`` or ``failed``, and its source.

    Attributes:
        settings_known: whether it is known with which settings it was reached. If so, they are
            those of the recipe at this depth; if not, the recipe's may be others.
    """

    number: str
    source: str
    settings_known: bool = True

    def __str__(self) -> str:
        """Return the number as tables have it: ``42.6 (settings unknown)``."""
        return self.number if self.settings_known else f"{self.number} (settings unknown)"


def read_section(
    section: Mapping[str, str],
) -> tuple[dict[tuple[str, str], Published], list[str]]:
    """Return (init type, depth) -> :class:`Published`, and what is wrong in the section.

    Init types are canonical words, whatever alias the file has.
    """
    found: dict[tuple[str, str], Published] = {}
    problems = []
    for key, text in section.items():
        if key == "measure":
            continue
        word, _, depth = key.partition(" ")
        match = _VALUE.fullmatch(text)
        if not match or not DEPTH.fullmatch(depth):
            problems.append(f"[published] {key} = {text}: must be {_EXPECTED}")
            continue
        try:
            init_type = find_method(word).name
        except AdminError as error:
            problems.append(f"[published] {key}: {error}")
            continue
        if (init_type, depth) in found:
            problems.append(f"[published] {key}: {init_type} {depth} appears twice")
        source = match["source"]
        known = not source.endswith(_UNKNOWN)
        found[init_type, depth] = Published(match["number"], source.removesuffix(_UNKNOWN), known)
    return found, problems
