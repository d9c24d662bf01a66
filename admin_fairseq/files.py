"""Files that are written whole or not at all, and only where a file belongs; and locks on them."""

import contextlib
import errno
import fcntl
import math
import os
import re
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from typing import IO, BinaryIO, Optional, Union

from .errors import AdminError

StrPath = Union[str, "os.PathLike[str]"]
_POLL = 0.2  # seconds between two tries for a lock
_MOST_LINKS = 40  # one after the other, as Linux has it
_STREAMS = {"/dev/stdout": 1, "/dev/stderr": 2}


@contextlib.contextmanager
def replacing(path: StrPath) -> Iterator[BinaryIO]:
    """Open a new binary file that takes the place of ``path`` when the block ends without error.

    Readers see the old file or the new one, never a part; two writers do not mix. Missing folders
    are made. What a killed process left behind of an earlier try is removed. Links are followed,
    and stay. A device, a pipe and what is open already (``/dev/stdout``) are never replaced: what
    is written goes straight there.

    Raises:
        OSError: if it cannot be written, or ``path`` is a folder; what was at ``path`` is still
            there.
    """
    if is_special(path):
        with _open_special(path) as file:
            yield file
        return
    if os.path.isdir(path):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), os.fspath(path))
    path = os.path.realpath(path)
    if os.path.islink(path):  # links that lead to each other
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), path)
    with _replacing_file(path) as file:
        yield file


@contextlib.contextmanager
def _replacing_file(path: str) -> Iterator[BinaryIO]:
    folder = os.path.dirname(path)
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


def is_special(path: StrPath) -> bool:
    """Whether ``path`` is there and neither a file nor a folder, or is what is open already.

    It is written into then, and never replaced: a device, a pipe, a socket, ``/dev/stdout``.
    """
    if _descriptor(path) is not None:
        return True
    return os.path.exists(path) and not os.path.isfile(path) and not os.path.isdir(path)


def _descriptor(path: StrPath) -> Optional[int]:
    """Return the number of the open file that a path such as ``/dev/stdout`` stands for."""
    place = os.path.abspath(path)
    for _ in range(_MOST_LINKS):
        found = re.fullmatch(r"/(?:dev|proc/self)/fd/(\d+)", place)
        if found:
            return int(found[1])
        if place in _STREAMS:
            return _STREAMS[place]
        if not os.path.islink(place):
            return None
        place = os.path.normpath(os.path.join(os.path.dirname(place), os.readlink(place)))
    return None


def _open_special(path: StrPath) -> BinaryIO:
    descriptor = _descriptor(path)
    if descriptor is not None:
        # not opened anew: in a file it would begin at its start, over what is there already
        sys.stdout.flush()
        return os.fdopen(os.dup(descriptor), "wb")
    try:
        handle = os.open(path, os.O_WRONLY | os.O_NONBLOCK)
    except OSError as error:
        if error.errno != errno.ENXIO:
            raise
        raise OSError(errno.ENXIO, "nobody reads from it", os.fspath(path)) from None
    os.set_blocking(handle, True)
    return os.fdopen(handle, "wb")


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
