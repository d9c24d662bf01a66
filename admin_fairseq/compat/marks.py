"""Which functions are mends: applying a mend twice changes nothing."""


def mark(function, idea="mend"):
    """Mark a function as the mend ``idea``, beside what it wraps; returns it."""
    function.mended_by_admin_fairseq = getattr(function, "mended_by_admin_fairseq", frozenset()) | {idea}
    return function


def is_mended(function, idea="mend"):
    """Whether a function is this mend already; ``idea`` tells mends of one function apart."""
    return idea in getattr(function, "mended_by_admin_fairseq", frozenset())
