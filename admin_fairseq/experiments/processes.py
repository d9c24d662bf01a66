"""Commands: where they are, and that they do not outlive the process that started them."""

import ctypes
import functools
import logging
import os
import platform
import shutil
import signal
import sys
from collections.abc import Callable, Mapping

from ..errors import AdminError

logger = logging.getLogger(__name__)
_PR_SET_PDEATHSIG = 1  # of linux/prctl.h

# glibc gives memory of a tensor back to the system at once, and asks for it anew, page by page
_KEPT = {
    # larger than any tensor of a step; 2.36 takes it, earlier releases may refuse more than 32 MiB
    "MALLOC_MMAP_THRESHOLD_": 2**30,
    "MALLOC_TRIM_THRESHOLD_": 2**30,
    "MALLOC_TOP_PAD_": 2**26,
}
_LIMIT_BEFORE_2_36 = 2**25


def keeping_memory(environment: Mapping[str, str]) -> dict[str, str]:
    """Return variables with which a training keeps the memory that it used for its next update.

    No bit of a result changes. Empty where they would do nothing, or undo what somebody chose: on
    other C libraries, with one of glibc's own variables, or with a library that is loaded first,
    which may be another allocator.

    Args:
        environment: that of the command.
    """
    chosen = [name for name in environment if name.startswith("MALLOC_")]
    if chosen or environment.get("GLIBC_TUNABLES") or environment.get("LD_PRELOAD"):
        return {}
    library, version = platform.libc_ver()
    if library != "glibc":
        return {}
    numbers = tuple(int(part) for part in version.split(".")[:2])
    settings = dict(_KEPT)
    if numbers < (2, 36):
        settings["MALLOC_MMAP_THRESHOLD_"] = _LIMIT_BEFORE_2_36
    return {name: str(value) for name, value in settings.items()}


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
