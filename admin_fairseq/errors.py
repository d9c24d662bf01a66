"""Mistakes that the user can correct: one message, the way out, no traceback."""

import logging
import sys
from collections.abc import Sequence
from types import TracebackType
from typing import Optional

# what the plain Exception says that fairseq's trainer raises for any error while loading weights
WRAPPED = "please ensure that the architectures match"
MOST = 10  # things of one kind that a message lists
WHILE_HANDLING = "\nDuring handling of the above exception, another exception occurred:\n"


def printable(text: str) -> str:
    """Return text without what a terminal would obey: a file may hold escape sequences."""
    shown = []
    for character in text:
        if not character.isprintable() and character not in "\n\t":
            character = character.encode("unicode_escape").decode()
        shown.append(character)
    return "".join(shown)


class PrintableFormatter(logging.Formatter):
    """Log lines without control characters."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line of a record."""
        return printable(super().format(record))


class AdminError(RuntimeError):
    """A mistake in flags or files. The message names all that is wrong, and what to do.

    A RuntimeError, because fairseq's trainer lets those pass, while for any other kind it first
    writes ``crash.pt`` into the --save-dir.
    """

    def __init__(self, message: object = "") -> None:
        # messages quote names, flags and lines of files that somebody else made
        super().__init__(printable(str(message)))


def raise_all(heading: str, problems: Sequence[object]) -> None:
    """Raise one :class:`AdminError` that lists every problem; return quietly if there is none."""
    if problems:
        lines = [heading] + [f"  - {problem}" for problem in problems]
        raise AdminError("\n".join(lines))


def first_of(items: Sequence[object], most: int = MOST) -> list[str]:
    """Return the first items as text, and behind them how many more there are."""
    shown = [str(item) for item in items[:most]]
    more = len(items) - most
    return [*shown, f"... and {more} more"] if more > 0 else shown


def install_excepthook() -> None:
    """Show an :class:`AdminError` that reaches the top as its message alone, exit code 1.

    For fairseq's commands, which do not catch errors: a wrong flag would end in thirty lines of
    their frames. Any other exception goes to the hook that was there before, whole. Twice changes
    nothing.
    """
    previous = sys.excepthook
    # our own hook, of an earlier call: a second one would be asked for nothing
    if getattr(previous, "__module__", None) == __name__:
        return

    def show(
        kind: type[BaseException], error: BaseException, traceback: Optional[TracebackType]
    ) -> None:
        message = message_of(error)
        if message is None:
            previous(kind, error, traceback)
            return
        # else what the command printed before comes after the message, where both are one file
        sys.stdout.flush()
        print(f"admin_fairseq: error: {message}", file=sys.stderr)

    sys.excepthook = show


def message_of(error: BaseException) -> Optional[str]:
    """Return the message of an :class:`AdminError` as fairseq lets it out; None for other errors.

    It comes as it is, inside what fairseq's trainer says of any error while loading weights, or as
    the text of a process that fairseq started for a GPU. An error that was raised while an
    AdminError was being handled is an error of its own.
    """
    if isinstance(error, AdminError):
        return str(error)
    if isinstance(error.__context__, AdminError) and WRAPPED in str(error):
        return str(error.__context__)
    # by name: the class is torch's, and this module does without torch
    if type(error).__name__ == "ProcessRaisedException":
        return _message_in(str(error))
    return None


def _message_in(text: str) -> Optional[str]:
    """Return the message of the AdminError that a printed traceback ends in, if it does."""
    tracebacks = text.split(WHILE_HANDLING)
    if len(tracebacks) > 1 and WRAPPED in tracebacks[-1]:
        # the last is fairseq's plain Exception; ours is what it was raised for
        tracebacks.pop()
    start = f"\n{AdminError.__module__}.{AdminError.__qualname__}: "
    _, found, message = tracebacks[-1].rpartition(start)
    # a traceback after ours is of another error, which is shown whole
    if not found or "\nTraceback (most recent call last):" in message:
        return None
    return message.strip()
