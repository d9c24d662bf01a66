"""Mistakes that the user can mend: one message, the way out, no traceback."""

import logging
import sys


def printable(text: str) -> str:
    """Return text without what a terminal would obey: what comes from a file may hold escape sequences."""
    return "".join(
        character
        if character.isprintable() or character in "\n\t"
        else character.encode("unicode_escape").decode()
        for character in text
    )


class PrintableFormatter(logging.Formatter):
    """Log lines without control characters."""

    def format(self, record: logging.LogRecord) -> str:
        return printable(super().format(record))


class AdminError(RuntimeError):
    """A mistake in flags or files. The message names all that is wrong, and what to do.

    A RuntimeError, because fairseq's trainer lets those pass, while for any other kind it first
    writes ``crash.pt`` into the --save-dir.
    """

    def __init__(self, message: object = "") -> None:
        super().__init__(printable(str(message)))


def raise_all(heading, problems):
    """Raise one :class:`AdminError` that lists every problem; return quietly if there is none."""
    if problems:
        lines = [heading] + [f"  - {problem}" for problem in problems]
        raise AdminError("\n".join(lines))


def install_excepthook():
    """Show an :class:`AdminError` that reaches the top as its message alone, exit code 1.

    fairseq's commands do not catch errors, so a wrong flag would end in thirty lines of their
    frames. Other exceptions go to the hook that was there before.
    """
    previous = sys.excepthook

    def show(kind, error, traceback):
        mistake = error
        while mistake is not None and not isinstance(mistake, AdminError):
            mistake = (
                mistake.__context__
            )  # fairseq puts "please ensure that the architectures match" around it
        if mistake is not None:
            sys.stdout.flush()
            print(f"admin_fairseq: error: {mistake}", file=sys.stderr)
        else:
            previous(kind, error, traceback)

    sys.excepthook = show
