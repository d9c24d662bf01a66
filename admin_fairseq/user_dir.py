"""A user-dir of one's own, imported beside this plugin."""

import os
from argparse import Namespace

from .errors import AdminError


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
