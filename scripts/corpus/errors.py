"""What the user can mend: shown as a message, without a traceback."""


class CorpusError(Exception):
    """Something is wrong with a flag, a file, the disk or the network; the message names it and the way out."""


def raise_all(heading, problems):
    """Raise one :class:`CorpusError` that lists every problem; return quietly if there is none."""
    if problems:
        raise CorpusError("\n".join([heading] + [f"  - {problem}" for problem in problems]))
