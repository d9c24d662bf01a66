"""Commands: where they are, and that they do not outlive the process that started them."""

import ctypes
import functools
import logging
import os
import shutil
import signal
import sys
from collections.abc import Callable

from ..errors import AdminError

logger = logging.getLogger(__name__)
_PR_SET_PDEATHSIG = 1  # of linux/prctl.h


def find_command(name: str) -> str:
    """Return the path of a command: beside this Python first, then in PATH.

    An environment need not be activated for its ``admin-fairseq`` to find its ``fairseq-train``.

    Raises:
        AdminError: if it is in neither place.
    """
    folder = os.path.dirname(sys.executable)
    path = shutil.which(name, path=folder) or shutil.which(name)
    if path is None:
        raise AdminError(
            f"{name} is neither in {folder} nor in PATH: activate the environment that has "
            "fairseq, or pip install 'admin_fairseq[recipes]'"
        )
    return path


def end_with(parent: int, how: signal.Signals = signal.SIGKILL) -> None:
    """Have this process get the signal ``how`` when its parent ends, in whatever way.

    Only Linux can; elsewhere it goes on if the parent is killed.

    Args:
        parent: the process that must still be the parent; this process ends at once if it is not.
        how: the signal.
    """
    if sys.platform == "linux":
        # None: the C library that Python itself runs on
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, how)
    # it may have ended before the line above, which tells of no end that is past
    if os.getppid() != parent:
        # not sys.exit: in a fork that would run what the parent has set up for its own end
        os._exit(1)


def ending_with_us(how: signal.Signals = signal.SIGKILL) -> Callable[[], None]:
    """Return a ``preexec_fn`` for subprocess: the child ends with this process, even if killed."""
    if sys.platform != "linux":
        _tell_of_orphans()
    return functools.partial(end_with, os.getpid(), how)


@functools.cache
def _tell_of_orphans() -> None:
    logger.warning(
        "this system is not Linux: should this process be killed, what it started goes on (Ctrl-C "
        "ends both)"
    )
