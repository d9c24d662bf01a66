"""Which functions are mends: applying a mend twice changes nothing.

One function of fairseq's may be wrapped by several mends; each tells itself from the others by a name.
"""

from collections.abc import Callable
from typing import TypeVar

Function = TypeVar("Function", bound=Callable)


def mark(function: Function, by: str = "") -> Function:
    """Mark a function as mended ``by`` a mend; returns it. ``functools.wraps`` carries earlier marks over."""
    function.mended_by_admin_fairseq = getattr(function, "mended_by_admin_fairseq", frozenset()) | {
        by
    }
    return function


def is_mended(function: Callable, by: str = "") -> bool:
    """Whether a function is mended ``by`` that mend already."""
    return by in getattr(function, "mended_by_admin_fairseq", ())
