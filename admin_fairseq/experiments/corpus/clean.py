"""Which pairs are kept, and how they are written: the rule of Moses' clean-corpus-n.perl."""

import re
from typing import Optional

from ...errors import AdminError
from .moses import SPACE

_LONGEST_WORD = 1000  # characters
_WORD = re.compile(f"[^{SPACE}]+")
_BLANK_FACTOR = re.compile(r"[ |]\|")
_Pair = tuple[str, str]


class Cleaner:
    """Takes the pairs of one corpus, in their order.

    Args:
        length: the least and the most tokens of a side.
        ratio: how many times as long as the other one side may be.
        rewrite: pairs are written as the script writes them: single spaces, and without ``|``,
            unless the first pair has one (then ``|`` parts the factors of words). Otherwise they
            stay as they are, and ``|`` is a character like any other.
    """

    def __init__(self, length: tuple[int, int], ratio: float, rewrite: bool) -> None:
        self._low, self._high = length
        self._ratio = ratio
        self._rewrite = rewrite
        self._factored: Optional[bool] = None if rewrite else False

    def clean(self, source: str, target: str) -> Optional[_Pair]:
        """Return a pair as it is written, or None if it is dropped.

        Raises:
            AdminError: for an empty factor, at which the script gives up as well.
        """
        if self._factored is None:
            self._factored = "|" in source or "|" in target
        sides = self._words(source), self._words(target)
        if not self._keeps(*sides):
            return None
        if not self._rewrite:
            return source, target
        cleaned = " ".join(sides[0]), " ".join(sides[1])
        for line in cleaned:
            if self._factored and _BLANK_FACTOR.search(line):
                raise AdminError(
                    f"the first pair has a |, so that | parts factors, and one of them is empty: "
                    f"{line[:80]!r}. With escape = yes no | is left in the text"
                )
        return cleaned

    def _words(self, line: str) -> list[str]:
        if self._rewrite and not self._factored and "|" in line:
            line = line.replace("|", "")
        # Python's split takes the separators \x1c to \x1f as well, which no printable line has
        return line.split() if line.isprintable() else _WORD.findall(line)

    def _keeps(self, left: list[str], right: list[str]) -> bool:
        if not left or not right:
            return False
        shorter, longer = sorted((len(left), len(right)))
        if shorter < self._low or longer > self._high or longer / shorter > self._ratio:
            return False
        words = left + right
        if max(map(len, words)) <= _LONGEST_WORD:
            return True
        if self._factored:
            words = "|".join(words).split("|")
        return max(map(len, words)) <= _LONGEST_WORD
