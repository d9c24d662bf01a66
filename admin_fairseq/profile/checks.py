"""What a profile must fulfil before a model is filled with it. A file is data, and may be damaged or edited.

- Its text is printable: nothing in it can steer a terminal.
- Omegas lie within ``OMEGA_RANGE``. Real ones do by far: they start at 1 and grow with the root of depth.
- Its checksum is that of the rest of its text.
- Without a checksum, its sites are a Transformer's in forward order, and its numbers obey the recursion that
  they were measured by (see ``profiling``).

The checks return what is wrong, as texts for people; whoever calls them raises.
"""

import hashlib
import math
import re

from ..sites import ROLE_NAMES as ROLES
from ..sites import SITE_PATTERN as SITE
from ..sites import stack_of

OMEGA_RANGE = (1e-4, 1e4)
TOLERANCE = 1e-6  # of the recursion, relative; a file holds numbers to the last bit
MOST = 10  # problems that a message lists
CHECKSUM = "checksum"
# less than float() takes: not 1_000, and not the digits of all scripts
NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?|[+-]?(nan|inf)", re.IGNORECASE | re.ASCII)


def shown(text, most=60):
    """Return a piece of a file as a message may show it: quoted, escaped and not long."""
    return repr(text if len(text) <= most else text[:most] + "...")


def first_of(problems, most=MOST):
    """Return the first problems of a list, and how many more there are."""
    more = len(problems) - most
    return problems if more <= 0 else problems[:most] + [f"... and {more} more"]


def number_in(cell, line):
    """Return the number that a cell of a table holds; ValueError, with the line's number, if it is none."""
    if not NUMBER.fullmatch(cell.strip()):
        raise ValueError(f"line {line}: {shown(cell)} is not a number")
    return float(cell)


def unprintable(text):
    """Return the lines with characters that are neither printable nor a tab, by number."""
    problems = []
    for number, line in enumerate(text.split("\n"), 1):
        line = line.replace("\t", "")
        if not line.isprintable():
            character = next(c for c in line if not c.isprintable())
            problems.append(f"line {number}: the character {character!r} is not printable")
    return problems


def out_of_range(sites):
    """Return the sites whose omega or variances no model can have.

    Args:
        sites: ``{name: SiteProfile}``; from Python its numbers may be anything.
    """
    problems = []
    for name, site in sites.items():
        low, high = OMEGA_RANGE
        problems += _not_within(f"{name}: omega", site.omega, low, high)
        for what in ("branch_variance", "shortcut_variance"):
            value = getattr(site, what)
            if value is not None:
                problems += _not_within(f"{name}: {what.replace('_', ' ')}", value, 0.0, math.inf)
    return problems


def _not_within(what, value, low, high):
    try:
        number = float(value)
    except (
        TypeError,
        ValueError,
        RuntimeError,
        OverflowError,
    ):  # RuntimeError: a tensor of several elements
        return [f"{what} {shown(str(value))} is not a number"]
    if not math.isfinite(number):
        return [f"{what} {number} is not finite"]
    if not low <= number <= high:
        return [
            f"{what} {number} is not {'at least 0' if high == math.inf else f'from {low:g} to {high:g}'}"
        ]
    return []


def out_of_order(names):
    """Return the names that are no site of a Transformer, or not where forward order has them.

    A layer begins with its self-attention and ends with its feed-forward site.
    """
    problems, last = [], {}
    for name in names:
        match = SITE.fullmatch(name)
        if not match:
            problems.append(f"{shown(name)} is no residual site")
            continue
        stack, layer, role = match.group(1), int(match.group(2)), ROLES.index(match.group(3))
        last_layer, last_role = last.get(stack, (-1, len(ROLES) - 1))
        begins = layer == last_layer + 1 and role == 0 and last_role == len(ROLES) - 1
        if not begins and (layer != last_layer or role <= last_role):
            problems.append(f"{name} is out of order")
        last[stack] = (layer, role)
    return problems


def against_recursion(sites):
    """Return the sites whose omega does not follow from the site before, in each stack.

    The first omega of a stack is 1, and every other one squared is the sum of the two variances of the
    site before. Where those are not told there is nothing to compare.
    """
    problems, before = [], {}
    for name, site in sites.items():
        previous = before.get(stack_of(name))
        before[stack_of(name)] = site
        wanted = 1.0 if previous is None else _next_square(previous)
        if wanted is not None and not math.isclose(site.omega**2, wanted, rel_tol=TOLERANCE):
            rule = (
                "the first of a stack is 1"
                if previous is None
                else f"by the site before {math.sqrt(wanted)}"
            )
            problems.append(f"{name}: omega {site.omega}, and {rule}")
    return problems


def _next_square(site):
    if site.branch_variance is None or site.shortcut_variance is None:
        return None
    return site.branch_variance + site.shortcut_variance


def key_of(line):
    """Return the key of a header line, ``# key: value``; None for any other line."""
    key, colon, _ = line[1:].partition(":")
    return key.strip() if line.startswith("#") and colon else None


def checksum(text):
    """Return the checksum of a profile's text: 16 hex digits of the SHA-256 of all lines but its own.

    Empty lines at the end do not count.
    """
    lines = [line for line in text.rstrip("\n").split("\n") if key_of(line) != CHECKSUM]
    return hashlib.sha256("\n".join(lines).encode("utf-8")).hexdigest()[:16]


def with_checksum(text):
    """Return a profile's text with a right checksum, in the line before its last."""
    lines = [line for line in text.rstrip("\n").split("\n") if key_of(line) != CHECKSUM]
    return "\n".join(lines[:-1] + [f"# {CHECKSUM}: {checksum(text)}", lines[-1]]) + "\n"
