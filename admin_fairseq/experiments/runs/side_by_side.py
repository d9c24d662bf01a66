"""Several runs at a time on one machine, each in a process of its own."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any

from ..processes import end_with

Work = Callable[[], Any]


def run_all(works: Sequence[Work], jobs: int, ended: Callable[[int, Any], None]) -> None:
    """Do all the work, at most ``jobs`` at a time.

    Each is a fork of this process, in which torch computes with one thread unless OMP_NUM_THREADS
    says otherwise. Stopped (Ctrl-C, SIGTERM) or killed, this process ends them all, by SIGTERM.

    Args:
        works: each returns something that can be pickled, and raises nothing but what ends it.
        jobs: how many at a time.
        ended: called in this process with the number of a work and what it returned, or None if
            its process was killed.
    """
    waiting = list(enumerate(works))
    running: dict[Connection, tuple[int, BaseProcess]] = {}
    try:
        while waiting or running:
            while waiting and len(running) < jobs:
                number, work = waiting.pop(0)
                connection, process = _start(work)
                running[connection] = (number, process)
            for ready in wait(list(running)):
                assert isinstance(ready, Connection)
                number, process = running.pop(ready)
                result = _receive(ready)
                process.join()
                ended(number, result)
    finally:
        for _, process in running.values():
            process.terminate()
        for _, process in running.values():
            process.join()


def _start(work: Work) -> tuple[Connection, BaseProcess]:
    context = multiprocessing.get_context("fork")  # the work need not be pickled
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_do, args=(work, sender, os.getpid()))
    process.start()
    sender.close()  # else the end of a killed process would not be noticed
    return receiver, process


def _do(work: Work, sender: Connection, parent: int) -> None:
    end_with(parent, signal.SIGTERM)
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    try:
        sender.send(work())
    except KeyboardInterrupt:
        os._exit(130)  # what it had started has been ended; the parent says that it was stopped


def _receive(connection: Connection) -> Any:
    try:
        return connection.recv()
    except EOFError:
        return None
    finally:
        connection.close()
