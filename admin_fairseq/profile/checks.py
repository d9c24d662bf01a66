"""What a profile must fulfil before a model is filled with it. A file may be damaged or edited.

- Its text is printable: nothing in it can steer a terminal.
- Omegas lie within ``OMEGA_RANGE``. Real ones do by far: they start at 1 and grow with the root of
  depth.
- Its checksum is that of the rest of its text.
- Without a checksum, its sites are a Transformer's in forward order, and its numbers obey the
  recursion that they were measured by (see ``measure``).

The checks return what is wrong, as texts for people; whoever calls them raises.
"""

import hashlib
import math
import re
from collections.abc import Iterable, Mapping
from typing import Any, Optional

from ..sites import ROLE_NAMES, SITE_PATTERN, stack_of
from .data import SiteProfile

OMEGA_RANGE = (1e-4, 1e4)
TOLERANCE = 1e-6  # of the recursion, relative; a file holds numbers to the last bit
CHECKSUM = "checksum"
# less than float() takes: not 1_000, and not the digits of all scripts
NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?|[+-]?(nan|inf)", re.IGNORECASE | re.ASCII)


def shown(text: str, most: int = 60) -> str:
    """Return a piece of a file as a message may show it: quoted, escaped and not long."""
    return repr(text if len(text) <= most else text[:most] + "...")


def number_in(cell: str, line: int) -> float:
    """Return the number that a cell of a table holds.

    Raises:
        ValueError: naming the line, if it is none.
    """
    if not NUMBER.fullmatch(cell.strip()):
        raise ValueError(f"line {line}: {shown(cell)} is not a number")
    return float(cell)


def unprintable(text: str) -> list[str]:
    """Return the lines with characters that are neither printable nor a tab, by number."""
    problems = []
    for number, line in enumerate(text.split("\n"), 1):
        line = line.replace("\t", "")
        if not line.isprintable():
            character = next(c for c in line if not c.isprintable())
            problems.append(f"line {number}: the character {character!r} is not printable")
    return problems


def out_of_range(sites: Mapping[str, SiteProfile]) -> list[str]:
    """Return the sites whose omega or variances no model can have.

    Args:
        sites: site name -> what was measured; from Python its numbers may be anything.
    """
    problems = []
    for name, site in sites.items():
        low, high = OMEGA_RANGE
        problems += _not_within(f"{name}: omega", site.omega, low, high)
        if site.recursion is not None:
            problems += _not_within(f"{name}: omega of the recursion", site.recursion, low, high)
        for what in ("branch_variance", "shortcut_variance"):
            value = getattr(site, what)
            if value is not None:
                problems += _not_within(f"{name}: {what.replace('_', ' ')}", value, 0.0, math.inf)
    return problems


def _not_within(what: str, value: Any, low: float, high: float) -> list[str]:
    try:
        number = float(value)
    # RuntimeError: a tensor of several elements
    except (TypeError, ValueError, RuntimeError, OverflowError):
        return [f"{what} {shown(str(value))} is not a number"]
    # before the range: that of variances has no upper end, and would take infinity
    if not math.isfinite(number):
        return [f"{what} {number} is not finite"]
    if low <= number <= high:
        return []
    limits = "at least 0" if high == math.inf else f"from {low:g} to {high:g}"
    return [f"{what} {number} is not {limits}"]


def out_of_order(names: Iterable[str]) -> list[str]:
    """Return the names that are no site of a Transformer, or not where forward order has them.

    A layer begins with its self-attention and ends with its feed-forward site.
    """
    problems = []
    last: dict[str, tuple[int, int]] = {}  # stack -> layer and role of its last site
    for name in names:
        match = SITE_PATTERN.fullmatch(name)
        if not match:
            problems.append(f"{shown(name)} is not a residual site")
            continue
        stack, layer, role = match.group(1), int(match.group(2)), ROLE_NAMES.index(match.group(3))
        # before the first site it is as if a layer -1 had just ended
        last_layer, last_role = last.get(stack, (-1, len(ROLE_NAMES) - 1))
        begins_layer = layer == last_layer + 1 and role == 0 and last_role == len(ROLE_NAMES) - 1
        goes_on = layer == last_layer and role > last_role
        if not begins_layer and not goes_on:
            problems.append(f"{name} is out of order")
        last[stack] = (layer, role)
    return problems


def against_recursion(sites: Mapping[str, SiteProfile]) -> list[str]:
    """Return the sites whose omega does not follow from the site before, in each stack.

    The first omega of a stack is 1, and every other one squared is the sum of the two variances of
    the site before. Where those are not told there is nothing to compare.
    """
    problems = []
    before: dict[str, SiteProfile] = {}  # stack -> its site before
    for name, site in sites.items():
        previous = before.get(stack_of(name))
        before[stack_of(name)] = site
        expected = _next_square(previous)
        omega = site.of_recursion
        if expected is None or math.isclose(omega**2, expected, rel_tol=TOLERANCE):
            continue
        rule = "the first of a stack is 1"
        if previous is not None:
            rule = f"by the site before {math.sqrt(expected)}"
        problems.append(f"{name}: omega {omega}, and {rule}")
    return problems


def against_shape(sites: Mapping[str, SiteProfile]) -> list[str]:
    """Return the sites whose omega is neither the recursion's nor the one of a flat stack.

    That is the last one of the recursion, in each stack (``shape``).
    """
    last = {stack_of(name): site.of_recursion for name, site in sites.items()}
    problems = []
    for name, site in sites.items():
        flat = last[stack_of(name)]
        if site.recursion is None or math.isclose(site.omega, flat, rel_tol=TOLERANCE):
            continue
        problems.append(f"{name}: omega {site.omega}, and the stack's last is {flat}")
    return problems


def _next_square(previous: Optional[SiteProfile]) -> Optional[float]:
    """Return omega^2 of the site after ``previous``, the first of a stack if that is None."""
    if previous is None:
        return 1.0
    if previous.branch_variance is None or previous.shortcut_variance is None:
        return None
    return previous.branch_variance + previous.shortcut_variance


def key_of(line: str) -> Optional[str]:
    """Return the key of a header line, ``# key: value``; None for any other line."""
    key, colon, _ = line[1:].partition(":")
    return key.strip() if line.startswith("#") and colon else None


def checksum(text: str) -> str:
    """Return the checksum of a profile's text: 16 hex digits of the SHA-256 of its other lines.

    Empty lines at the end do not count.
    """
    # 64 bits: it tells damage, not forgery, and a person can compare it
    return hashlib.sha256("\n".join(_without_checksum(text)).encode("utf-8")).hexdigest()[:16]


def with_checksum(text: str) -> str:
    """Return a profile's text with a right checksum, in the line before its last."""
    lines = _without_checksum(text)
    # the line that says "end" stays last: it shows a file that was cut short
    return "\n".join(lines[:-1] + [f"# {CHECKSUM}: {checksum(text)}", lines[-1]]) + "\n"


def _without_checksum(text: str) -> list[str]:
    return [line for line in text.rstrip("\n").split("\n") if key_of(line) != CHECKSUM]
