"""Work for several processes: in order, with memory bounded by the items under way."""

import collections
import concurrent.futures
import multiprocessing
import os
import signal
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.connection import Connection
from typing import Any, TypeVar

from ...errors import AdminError
from ..processes import end_with

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")
_UNDER_WAY = 3  # items for each process


def ordered_map(
    convert: Callable[[_Item], _Result], items: Iterable[_Item], jobs: int
) -> Iterator[_Result]:
    """Yield ``convert(item)`` for each item, in their order.

    Args:
        convert: can be pickled, as the items and what it returns.
        items: each worth the sending: a list of lines, a slice of a file.
        jobs: processes; one is this process itself.

    Raises:
        AdminError: if a worker process is killed.
    """
    if jobs == 1:
        yield from map(convert, items)
        return
    waiting: collections.deque[concurrent.futures.Future[_Result]] = collections.deque()
    # forked by this process: from Python 3.14 on another one would, which is no parent to end with
    context = multiprocessing.get_context("fork")
    pool = concurrent.futures.ProcessPoolExecutor(jobs, context, _start, (os.getpid(),))
    try:
        for item in items:
            waiting.append(pool.submit(convert, item))
            if len(waiting) > _UNDER_WAY * jobs:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    except BrokenProcessPool:
        raise AdminError(
            "a worker process was killed (out of memory?): start again, with fewer --jobs"
        ) from None
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def in_child(function: Callable[..., _Result], *args: Any) -> _Result:
    """Return what a function returns in a process of its own.

    So the memory that it took is given back to the system.

    Raises:
        Exception: what the function raised.
        AdminError: if its process is killed.
    """
    context = multiprocessing.get_context("fork")
    receiving, sending = context.Pipe(duplex=False)
    process = context.Process(
        target=_send, args=(os.getpid(), sending, function, args), daemon=True
    )
    process.start()
    sending.close()
    try:
        failed, result = receiving.recv()
    except EOFError:
        raise AdminError("a process was killed (out of memory?): start again") from None
    finally:
        process.kill()  # it has sent everything, or nobody waits for it any more
        process.join()
    if failed:
        raise result
    return result


def _send(
    parent: int, connection: Connection, function: Callable[..., object], args: tuple[Any, ...]
) -> None:
    _start(parent)
    try:
        connection.send((False, function(*args)))
    except Exception as error:
        connection.send((True, error))


def _start(parent: int) -> None:
    """Have a worker end with its parent, and leave Ctrl-C to the parent."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    end_with(parent)
