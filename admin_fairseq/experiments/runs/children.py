"""The commands that a run starts: their output, and their end with ours."""

import contextlib
import os
import signal
import subprocess
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import FrameType
from typing import IO, Optional

from ..processes import ending_with_us

_PATIENCE = 20  # seconds that a command may take to end


def ending_gently() -> Callable[[], None]:
    """Return a ``preexec_fn``: the command gets SIGTERM when this process ends.

    On SIGTERM torchrun ends the processes that it started.
    """
    return ending_with_us(signal.SIGTERM)


def run(words: Sequence[object], output: IO) -> int:
    """Run a command to its end, its output into a file, and return its exit code.

    Killed, this process takes it along.
    """
    return subprocess.run(
        [str(word) for word in words],
        stdout=output,
        stderr=subprocess.STDOUT,
        preexec_fn=ending_gently(),
    ).returncode


def end(process: subprocess.Popen) -> None:
    """End a process that leads a group, and all of the group, if it still runs."""
    if process.poll() is not None:
        return
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGTERM)
    try:
        process.wait(_PATIENCE)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def holders(path: Path) -> dict[int, str]:
    """Return the processes that have a file open: process id -> command line."""
    found = {}
    for descriptor in Path("/proc").glob("[0-9]*/fd/*"):
        with contextlib.suppress(OSError):  # it has ended, or is not ours to see
            pid = int(descriptor.parts[2])
            if descriptor.samefile(path) and pid != os.getpid():
                line = (descriptor.parents[1] / "cmdline").read_bytes()
                found[pid] = line.replace(b"\0", b" ").decode(errors="replace")
    return found


@contextlib.contextmanager
def stopped_by_term() -> Iterator[None]:
    """Let SIGTERM unwind the block as Ctrl-C does, so that trainings are ended too."""

    def stop(_number: int, _frame: Optional[FrameType]) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
