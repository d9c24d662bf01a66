"""Lines through several processes: the order stays, and memory is bounded by the chunks that are under way."""

import collections
import concurrent.futures
import itertools
import multiprocessing
import os
import signal
from concurrent.futures.process import BrokenProcessPool

from ...errors import AdminError
from ..processes import end_with

CHUNK = 2000  # lines
UNDER_WAY = 3  # chunks for each process


def chunks(lines, size=CHUNK):
    """Yield lists of up to ``size`` lines."""
    lines = iter(lines)
    while chunk := list(itertools.islice(lines, size)):
        yield chunk


def ordered_map(convert, lines, jobs):
    """Yield the lines that ``convert`` (a function of a list of lines, to a list) makes, in order."""
    if jobs == 1:
        for chunk in chunks(lines):
            yield from convert(chunk)
        return
    waiting = collections.deque()
    pool = concurrent.futures.ProcessPoolExecutor(jobs, initializer=_start, initargs=(os.getpid(),))
    try:
        for chunk in chunks(lines):
            waiting.append(pool.submit(convert, chunk))
            if len(waiting) > UNDER_WAY * jobs:
                yield from waiting.popleft().result()
        while waiting:
            yield from waiting.popleft().result()
    except BrokenProcessPool:
        raise AdminError(
            "a worker process was killed (out of memory?): start again, with fewer --jobs"
        ) from None
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def in_child(function, *args):
    """Return what a function returns in a process of its own, so that the memory it took is given back."""
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
        process.kill()  # it has sent all, or is not wanted any more
        process.join()
    if failed:
        raise result
    return result


def _send(parent, connection, function, args):
    _start(parent)
    try:
        connection.send((False, function(*args)))
    except Exception as error:
        connection.send((True, error))


def _start(parent):
    """A worker ends with its parent; Ctrl-C is the parent's business."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    end_with(parent)
