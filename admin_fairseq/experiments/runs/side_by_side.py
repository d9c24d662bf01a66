"""Several runs at a time on one machine, each in a process of its own."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any

from ..processes import end_with
from .devices import visible

Work = Callable[[], Any]


@dataclass
class Pool:
    """GPUs that are handed out to works, and taken back.

    Attributes:
        free: words of CUDA_VISIBLE_DEVICES.
        takes: how many each work takes, by its number; no more than there are.
    """

    free: list[str]
    takes: list[int]

    def __post_init__(self) -> None:
        """Remember the order of the GPUs."""
        self._order = list(self.free)

    def most_at_a_time(self) -> int:
        """Return how many works can have GPUs at the same time, at the most."""
        return max(1, len(self._order) // min(self.takes))

    def has_enough(self, number: int) -> bool:
        """Whether the work with this number can have its GPUs now."""
        return self.takes[number] <= len(self.free)

    def take(self, number: int) -> list[str]:
        """Hand out the GPUs of a work."""
        words = self.free[: self.takes[number]]
        del self.free[: len(words)]
        return words

    def give_back(self, words: list[str]) -> None:
        """Take the GPUs of a work back."""
        self.free = [word for word in self._order if word in (*self.free, *words)]


def run_all(
    works: Sequence[Work],
    jobs: int,
    ended: Callable[[int, Any], None],
    pool: Pool | None = None,
) -> None:
    """Do all the work, at most ``jobs`` at a time.

    Each is a fork of this process, in which torch computes with one thread unless OMP_NUM_THREADS
    says otherwise. Stopped (Ctrl-C, SIGTERM) or killed, this process ends them all, by SIGTERM.

    Args:
        works: each returns something that can be pickled, and raises nothing but what ends it.
        jobs: how many at a time.
        ended: called in this process with the number of a work and what it returned, or None if
            its process was killed.
        pool: the GPUs that the works get, so that no two of them use the same at a time; each sees
            no others.
    """
    waiting = list(enumerate(works))
    running: dict[Connection, tuple[int, BaseProcess, list[str]]] = {}
    try:
        while waiting or running:
            while waiting and len(running) < jobs and (not pool or pool.has_enough(waiting[0][0])):
                number, work = waiting.pop(0)
                gpus = pool.take(number) if pool else []
                connection, process = _start(work, visible(gpus) if pool else {})
                running[connection] = (number, process, gpus)
            for ready in wait(list(running)):
                assert isinstance(ready, Connection)
                number, process, gpus = running.pop(ready)
                result = _receive(ready)
                process.join()
                if pool:
                    pool.give_back(gpus)
                ended(number, result)
    finally:
        for _, process, _ in running.values():
            process.terminate()
        for _, process, _ in running.values():
            process.join()


def _start(work: Work, environment: dict[str, str]) -> tuple[Connection, BaseProcess]:
    context = multiprocessing.get_context("fork")  # the work need not be pickled
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_do, args=(work, sender, os.getpid(), environment))
    process.start()
    sender.close()  # else the end of a killed process would not be noticed
    return receiver, process


def _do(work: Work, sender: Connection, parent: int, environment: dict[str, str]) -> None:
    end_with(parent, signal.SIGTERM)
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    os.environ.update(environment)
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
