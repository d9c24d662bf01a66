"""Processes that do not outlive the one that started them."""

import ctypes
import functools
import os
import signal

PR_SET_PDEATHSIG = 1  # of linux/prctl.h


def end_with(parent, how=signal.SIGKILL):
    """Let this process get the signal ``how`` when its parent, the process ``parent``, ends in whatever way."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, how)
    if os.getppid() != parent:
        os._exit(1)


def ending_with_us(how=signal.SIGKILL):
    """Return a ``preexec_fn`` for subprocess: what is started ends with this process, even if that is killed."""
    return functools.partial(end_with, os.getpid(), how)
