"""Values of a recipe file: from text to what it means.

A reader returns the value, or raises ValueError for a text that it cannot read; :class:`Key` says
what the text must be.
"""

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Optional

DEPTH = re.compile(r"[1-9]\d*-[1-9]\d*")


@dataclass(frozen=True)
class Key:
    """A key of a section: its reader, what its text must be, and whether it must be given."""

    read: Callable[[str], Any]
    expected: str
    required: bool = True


def read_value(where: str, text: str, key: Key, problems: list[str]) -> Any:
    """Return the value of a text; None, and one more problem, where it cannot be read."""
    try:
        return key.read(text)
    except ValueError:
        problems.append(f"{where} = {text}: must be {key.expected}")
        return None


def yes_or_no(text: str) -> bool:
    """Read ``yes`` or ``no``."""
    if text not in ("yes", "no"):
        raise ValueError
    return text == "yes"


def words(text: str) -> list[str]:
    """Read words with white space between them."""
    return text.split()


def lines(text: str) -> list[str]:
    """Read the lines that are not empty."""
    return [line.strip() for line in text.splitlines() if line.strip()]


def positive(text: str) -> int:
    """Read a whole number of at least 1."""
    number = int(text)
    if number < 1:
        raise ValueError
    return number


def whole(text: str) -> int:
    """Read a whole number of at least 0."""
    number = int(text)
    if number < 0:
        raise ValueError
    return number


def amount(text: str) -> float:
    """Read a finite number of at least 0."""
    number = float(text)
    if not math.isfinite(number) or number < 0:
        raise ValueError
    return number


def seeds(text: str) -> list[int]:
    """Read one whole number or several."""
    found = [int(word) for word in text.split()]
    if not found:
        raise ValueError
    return found


def depths(text: str) -> list[str]:
    """Read depths, ENCODER-DECODER, with commas or white space between them."""
    found = text.replace(",", " ").split()
    if not found or not all(DEPTH.fullmatch(word) for word in found):
        raise ValueError
    return found


def dims(text: str) -> tuple[int, int, int]:
    """Read ``512 / 2048 / 8``: embedding, feed-forward, attention heads."""
    embed, ffn, heads = (positive(word) for word in text.split("/"))
    return embed, ffn, heads


def max_len(text: str) -> tuple[float, int]:
    """Return (1.5, 10) of ``1.5 / 10``, how long a hypothesis may become."""
    factor, more = text.split("/")
    return amount(factor), whole(more)


def betas(text: str) -> list[float]:
    """Read Adam's ``beta1 / beta2``, each below 1."""
    found = [amount(word) for word in text.split("/")]
    if len(found) != 2 or max(found) >= 1:
        raise ValueError
    return found


def positive_number(text: str) -> Optional[float]:
    """Return a finite number above 0, such as a learning rate; None for any other text."""
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) and number > 0 else None


def amounts(text: str) -> list[str]:
    """Read numbers with commas or white space between them; they stay the texts that they are."""
    found = text.replace(",", " ").split()
    for word in found:
        amount(word)
    if not found:
        raise ValueError
    return found


def token_counts(text: str) -> tuple[Optional[int], Optional[int]]:
    """Read ``132886171 / 137628246``: source and target; ``unknown`` is None, of one side only."""
    found = [None if word.strip() == "unknown" else positive(word) for word in text.split("/")]
    source, target = found
    if source is None and target is None:
        raise ValueError
    return source, target


def took(text: str) -> str:
    """Read ``9.3 hours, 4 x A100, SOURCE``; hours may be ``unknown``."""
    if not re.fullmatch(r"(\d+(\.\d+)?|unknown) hours, [1-9]\d* x \w+, \S.*", text):
        raise ValueError
    return text


def factors(text: str) -> list[int]:
    """Read ``4 x 8192 x 2``: processes, tokens, updates that are added up; the product counts."""
    found = [positive(word) for word in text.split("x")]
    if len(found) > 3:
        raise ValueError
    return found
