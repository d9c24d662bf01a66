"""``--user-dir``: where this plugin's own is, and one of the user's, imported beside it."""

import os
from argparse import Namespace
from typing import Any

from .errors import AdminError


def add_parser(commands: Any) -> None:
    """Add ``user-dir`` to the subcommands of ``admin-fairseq``."""
    command = commands.add_parser(
        "user-dir",
        help="print the path for fairseq's --user-dir",
        description="Print the absolute path of this plugin, for places where --user-dir "
        'admin_fairseq is not found: fairseq-train DATA-BIN --user-dir "$(admin-fairseq user-dir)"',
    )
    command.set_defaults(run=_print_path)


def _print_path(args: Namespace) -> None:
    print(os.path.dirname(os.path.abspath(__file__)))


def import_user_dir(path: str) -> None:
    """Import a user's own user-dir, as fairseq's commands do; this plugin's own is here already.

    Raises:
        AdminError: naming it, if it cannot be imported.
    """
    from fairseq import utils

    if os.path.basename(os.path.normpath(path)) == __package__:
        return
    try:
        utils.import_user_module(Namespace(user_dir=path))
    except AdminError:
        raise
    except FileNotFoundError as error:
        raise AdminError(f"--user-dir {path}: cannot be imported: no such folder") from error
    except Exception as error:  # whatever the user's code raises
        reason = f"{type(error).__name__}: {error}"
        raise AdminError(f"--user-dir {path}: cannot be imported: {reason}") from error
