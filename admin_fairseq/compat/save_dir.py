"""Two trainings in one ``--save-dir`` overwrite each other's checkpoints, and neither says so: the second is refused."""

import atexit
import contextlib
import functools
import os
import socket

from .. import files
from ..errors import AdminError
from .marks import is_mended, mark

HELD = {}  # path of a lock -> its open file: locks last as long as the process


def forget_in_child():
    """A forked child (fairseq loads data in some) has no part in the locks, and may outlive its parent."""
    while HELD:
        HELD.popitem()[1].close()


os.register_at_fork(after_in_child=forget_in_child)


def lock_save_dirs():
    """Have every ``Trainer`` that saves hold a lock on its ``--save-dir`` until its process ends.

    The lock is the system's, so that a killed training leaves none. Trainings of one process follow each other, and
    share it.
    """
    from fairseq.trainer import Trainer

    construct = Trainer.__init__
    if is_mended(construct, by="save_dir"):
        return

    @functools.wraps(construct)
    def begin(self, cfg, *args, **kwargs):
        construct(self, cfg, *args, **kwargs)
        checkpoint = self.cfg.checkpoint
        if self.is_data_parallel_master and not checkpoint.no_save:
            hold(checkpoint.save_dir, checkpoint.checkpoint_suffix or "")

    Trainer.__init__ = mark(begin, by="save_dir")


def hold(save_dir, suffix=""):
    """Lock a folder for the checkpoints with this suffix.

    Raises:
        AdminError: if another process trains there.
    """
    path = os.path.join(os.path.realpath(save_dir), f".training{suffix}.lock")
    if path in HELD:
        return
    try:
        file = open(path, "a+b")
    except OSError:
        return  # read-only, or full: fairseq tells when it saves
    try:
        if not files.lock(file):
            file.close()
            return  # a file system without locks
    except BlockingIOError:
        file.seek(0)
        holder = file.read(200).decode(errors="replace").strip() or "just started"
        file.close()
        raise AdminError(
            f"--save-dir {save_dir}: another training ({holder}) saves its checkpoints there; wait for its end, or name "
            "another folder"
        ) from None
    file.truncate(0)
    file.write(f"process {os.getpid()} on {socket.gethostname()}".encode())
    file.flush()
    HELD[path] = file
    atexit.register(release, path, os.getpid())


def release(path, process):
    """Remove a lock that this process holds; a forked child has no part in it."""
    if os.getpid() == process and path in HELD:
        with contextlib.suppress(OSError):
            os.unlink(path)
        HELD.pop(path).close()
