"""Files that are written whole or not at all, and only where a file belongs."""

import contextlib
import fcntl
import os
import re
import tempfile
from collections.abc import Iterator
from typing import BinaryIO


@contextlib.contextmanager
def replacing(path: str) -> Iterator[BinaryIO]:
    """Open a new binary file that takes the place of ``path`` when the block ends without error.

    Readers see the old file or the new one, never a part; two writers do not mix. Missing folders
    are made. What a killed process left behind of an earlier try is removed.

    Raises:
        OSError: if it cannot be written, or ``path`` is a device, a pipe or a folder; what was at ``path`` is
            still there.
    """
    if os.path.exists(path) and not os.path.isfile(path):
        raise OSError(0, "is there and is no file, and would be replaced")
    folder = os.path.dirname(os.path.abspath(path))
    os.makedirs(folder, exist_ok=True)
    sweep(path)
    handle, temporary = tempfile.mkstemp(
        dir=folder, prefix=os.path.basename(path) + ".", suffix=".tmp"
    )
    try:
        with os.fdopen(handle, "wb") as file:
            lock(file)  # so that others know that it is being written
            yield file
            file.flush()
            os.fsync(file.fileno())
            umask = os.umask(0)
            os.umask(umask)
            os.chmod(temporary, 0o666 & ~umask)  # mkstemp's 0600 would keep colleagues out
            os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)
        raise


def sweep(path: str) -> None:
    """Remove the temporary files that killed processes left of ``path``; one that is being written is locked."""
    folder, name = os.path.split(os.path.abspath(path))
    pattern = re.compile(re.escape(name) + r"\.[a-z0-9_]{8}\.tmp")
    for found in os.listdir(folder):
        if pattern.fullmatch(found):
            with contextlib.suppress(OSError), open(os.path.join(folder, found), "rb") as file:
                if lock(file):
                    os.unlink(file.name)


def lock(file: BinaryIO) -> bool:
    """Lock an open file until it is closed, or its process ends; returns whether nobody else holds it."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:  # held, or a file system without locks
        return False
    return True
