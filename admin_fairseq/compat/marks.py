"""Which functions are mends: applying a mend twice changes nothing."""


def mark(function):
    """Mark a function as a mend; returns it."""
    function.mended_by_admin_fairseq = True
    return function


def is_mended(function):
    """Whether a function is a mend already."""
    return getattr(function, "mended_by_admin_fairseq", False)
