"""Files that are written whole or not at all, and only where a file belongs; and locks on them."""

import contextlib
import fcntl
import math
import os
import re
import tempfile
import time
from collections.abc import Callable, Iterator
from typing import IO, BinaryIO, Optional, Union

from .errors import AdminError

StrPath = Union[str, "os.PathLike[str]"]
_POLL = 0.2  # seconds between two tries for a lock


@contextlib.contextmanager
def replacing(path: StrPath) -> Iterator[BinaryIO]:
    """Open a new binary file that takes the place of ``path`` when the block ends without error.

    Readers see the old file or the new one, never a part; two writers do not mix. Missing folders
    are made. What a killed process left behind of an earlier try is removed.

    Raises:
        OSError: if it cannot be written, or ``path`` is a device, a pipe or a folder; what was at
            ``path`` is still there.
    """
    if os.path.exists(path) and not os.path.isfile(path):
        raise OSError(0, "is not a regular file, and would be replaced")
    folder = os.path.dirname(os.path.abspath(path))
    os.makedirs(folder, exist_ok=True)
    sweep(path)
    handle, temporary = tempfile.mkstemp(
        dir=folder, prefix=os.path.basename(path) + ".", suffix=".tmp"
    )
    try:
        with os.fdopen(handle, "wb") as file:
            lock(file)  # so that the sweep of another process leaves it alone
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


def sweep(path: StrPath) -> None:
    """Remove the temporary files that killed processes left of ``path``.

    One that is still being written is locked, and stays.
    """
    folder, name = os.path.split(os.path.abspath(path))
    pattern = re.compile(re.escape(name) + r"\.[a-z0-9_]{8}\.tmp")
    for found in os.listdir(folder):
        if pattern.fullmatch(found):
            with contextlib.suppress(OSError), open(os.path.join(folder, found), "rb") as file:
                if lock(file):
                    os.unlink(file.name)


def lock(file: IO) -> bool:
    """Lock an open file until it is closed, or its process ends, in whatever way.

    Returns:
        True; False on a file system that has no locks, where nothing is locked.

    Raises:
        BlockingIOError: if another process holds the lock.
    """
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise
    except OSError:  # ENOLCK, ENOTSUP and others: network file systems differ
        return False
    return True


def _in_use(path: StrPath) -> str:
    return f"{path} is in use by another process: wait for its end"


@contextlib.contextmanager
def locked(
    path: StrPath, wait: float = math.inf, in_use: Optional[Callable[[StrPath], str]] = None
) -> Iterator[BinaryIO]:
    """Hold the lock file at ``path`` while the block runs; the file and its folder are made.

    What is started meanwhile, and is given the file's descriptor, may hold the lock on. On a file
    system without locks the block runs without.

    Args:
        path: the lock file.
        wait: for at most so many seconds, if another process holds it.
        in_use: of the path -> the message if it is still held then.

    Raises:
        AdminError: with that message.
    """
    os.makedirs(os.path.dirname(os.path.abspath(path)), exist_ok=True)
    end = time.monotonic() + wait
    with open(path, "ab") as file:
        while True:
            try:
                lock(file)
                break
            except BlockingIOError:
                if time.monotonic() >= end:
                    raise AdminError((in_use or _in_use)(path)) from None
            time.sleep(_POLL)
        yield file
