"""Which functions have their workaround already: applying one twice changes nothing.

One function of fairseq's may be wrapped by several workarounds; each tells itself from the others
by a name.
"""

from typing import Any, TypeVar

_Function = TypeVar("_Function")
_MARK = "mended_by_admin_fairseq"


def mark(function: _Function, by: str = "") -> _Function:
    """Mark a function as replaced by the workaround ``by``; returns it.

    ``functools.wraps`` carries earlier marks over.
    """
    setattr(function, _MARK, getattr(function, _MARK, frozenset()) | {by})
    return function


def is_mended(function: Any, by: str = "") -> bool:
    """Whether a function (or fairseq's view of a module) has the workaround ``by`` already."""
    return by in getattr(function, _MARK, ())
