"""Two trainings in one ``--save-dir`` overwrite each other's checkpoints: the second is refused."""

import atexit
import contextlib
import functools
import os
import socket
from typing import Any, BinaryIO

from .. import files
from ..errors import AdminError
from .marks import is_mended, mark

# path of a lock -> its open file: a lock is the process's, and lasts as long as it
_HELD: dict[str, BinaryIO] = {}


def _forget_in_child() -> None:
    """A forked child (fairseq loads data in some) has no part in the locks, and may outlive us."""
    while _HELD:
        _HELD.popitem()[1].close()


os.register_at_fork(after_in_child=_forget_in_child)


def lock_save_dirs() -> None:
    """Have every ``Trainer`` that saves hold a lock on its ``--save-dir`` until its process ends.

    The lock is the system's, so that a killed training leaves none. Trainings of one process follow
    each other, and share it.
    """
    from fairseq.trainer import Trainer

    construct = Trainer.__init__
    if is_mended(construct, by="save_dir"):
        return

    @functools.wraps(construct)
    def begin(self: Any, cfg: Any, *args: Any, **kwargs: Any) -> None:
        construct(self, cfg, *args, **kwargs)
        checkpoint = self.cfg.checkpoint
        if self.is_data_parallel_master and not checkpoint.no_save:
            hold(checkpoint.save_dir, checkpoint.checkpoint_suffix or "")

    Trainer.__init__ = mark(begin, by="save_dir")


def hold(save_dir: str, suffix: str = "") -> None:
    """Lock a folder for the checkpoints with this suffix.

    Raises:
        AdminError: if another process trains there.
    """
    path = os.path.join(os.path.realpath(save_dir), f".training{suffix}.lock")
    if path in _HELD:
        return
    try:
        file = open(path, "a+b")  # noqa: SIM115  # it stays open: closing it gives the lock up
    except OSError:
        return  # read-only, or full: fairseq tells when it saves
    if not files.lock(file):
        # whoever holds it has written its name there
        file.seek(0)
        holder = file.read(200).decode(errors="replace").strip()
        file.close()
        if not holder:
            return  # a file system without locks
        raise AdminError(
            f"--save-dir {save_dir}: another training ({holder}) saves its checkpoints there; wait "
            "for its end, or name another folder"
        )
    file.truncate(0)
    file.write(f"process {os.getpid()} on {socket.gethostname()}".encode())
    file.flush()
    _HELD[path] = file
    atexit.register(release, path, os.getpid())


def release(path: str, process: int) -> None:
    """Remove a lock that this process holds; a forked child has no part in it.

    Args:
        path: of the lock.
        process: the number of the process that took it.
    """
    if os.getpid() == process and path in _HELD:
        with contextlib.suppress(OSError):
            os.unlink(path)
        _HELD.pop(path).close()
