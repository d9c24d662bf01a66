"""The commands that a run starts: their output, and their end with ours."""

import contextlib
import os
import signal
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import IO, Optional

from ..processes import ending_with_us, keeping_memory

_PATIENCE = 20  # seconds that a command may take to end
PROC = "/proc"  # Linux alone has it
STOPPING = (signal.SIGTERM, signal.SIGUSR1)  # what Slurm tells a job with that it is to end

# preemption.py's: in the environment of fairseq-train, and in its log
_SAVE_ON_SIGNAL = "ADMIN_FAIRSEQ_SAVE_ON_SIGNAL"
SAVED = "told to stop: saved"


def ending_gently() -> Callable[[], None]:
    """Return a ``preexec_fn``: the command gets SIGTERM when this process ends.

    On SIGTERM torchrun ends the processes that it started.
    """
    return ending_with_us(signal.SIGTERM)


def run(
    words: Sequence[object], output: IO, environment: Optional[Mapping[str, str]] = None
) -> int:
    """Run a command to its end, its output into a file, and return its exit code.

    Killed, this process takes it along.

    Args:
        words: the command.
        output: a file that was opened for writing.
        environment: what is other there than in this process's environment.
    """
    return subprocess.run(
        [str(word) for word in words],
        stdout=output,
        stderr=subprocess.STDOUT,
        preexec_fn=ending_gently(),
        env=_with(environment or {}),
    ).returncode


def _with(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the environment of a command: this process's, with what is other there."""
    whole = {**os.environ, **environment}
    return {**whole, **keeping_memory(whole)}


@dataclass
class Training:
    """A training that was started, and whether it was told to save and to end."""

    process: subprocess.Popen
    told: bool = False


@contextlib.contextmanager
def training(
    words: Sequence[str], output: IO, environment: Mapping[str, str], pass_fds: Sequence[int] = ()
) -> Iterator[Training]:
    """Start a training in a process group of its own, which ends with the block.

    SIGTERM and SIGUSR1 to this process meanwhile tell it to save and to end; the block goes on.

    Args:
        words: the command of fairseq-train, or of torchrun that starts it.
        output: the file of its log.
        environment: what is other there than in this process's environment.
        pass_fds: files that it keeps open.
    """
    gently = ending_gently()

    def begin() -> None:
        gently()
        # torchrun does not know this signal, which would end it; its trainings listen to it
        signal.signal(signal.SIGUSR1, signal.SIG_IGN)

    process = subprocess.Popen(
        words,
        stdout=output,
        stderr=subprocess.STDOUT,
        pass_fds=pass_fds,
        start_new_session=True,
        preexec_fn=begin,
        env={**_with(environment), _SAVE_ON_SIGNAL: "1"},
    )
    try:
        started = Training(process)
        with _saving(started):
            yield started
    finally:
        end(process)


@contextlib.contextmanager
def _saving(started: Training) -> Iterator[None]:
    def ask(*_: object) -> None:
        started.told = True
        signal.alarm(1)  # again: before its first update it does not listen
        _tell(started.process)

    before = {number: signal.signal(number, ask) for number in (*STOPPING, signal.SIGALRM)}
    try:
        yield
    finally:
        signal.alarm(0)
        for number, handler in before.items():
            signal.signal(number, handler)


def _tell(process: subprocess.Popen) -> None:
    """Tell a training and all that it started to save and to end."""
    if process.returncode is None:
        for pid in [process.pid, *_descendants(process.pid)]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGUSR1)


def _descendants(pid: int) -> list[int]:
    """Return the processes that a process started, and those that they started."""
    children: dict[int, list[int]] = {}
    for child, parent in _parents().items():
        children.setdefault(parent, []).append(child)
    found = children.get(pid, [])
    for child in found:  # which grows meanwhile
        found += children.get(child, [])
    return found


def _parents() -> dict[int, int]:
    """Return the parent of every process: from /proc, or where there is none, of ``ps``."""
    found = {}
    for path in Path(PROC).glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):  # it has ended
            # number (name) state parent ...; a name may hold anything
            parent = path.read_text(errors="replace").rpartition(")")[2].split()[1]
            found[int(path.parent.name)] = int(parent)
    if not found:
        with contextlib.suppress(OSError):
            words = ["ps", "-A", "-o", "pid=", "-o", "ppid="]
            lines = subprocess.run(words, capture_output=True, text=True).stdout.splitlines()
            found = {int(child): int(parent) for child, parent in map(str.split, lines)}
    return found


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
    for descriptor in Path(PROC).glob("[0-9]*/fd/*"):
        with contextlib.suppress(OSError):  # it has ended, or is not ours to see
            pid = int(descriptor.parts[2])
            if descriptor.samefile(path) and pid != os.getpid():
                line = (descriptor.parents[1] / "cmdline").read_bytes()
                found[pid] = line.replace(b"\0", b" ").decode(errors="replace")
    return found


@contextlib.contextmanager
def stopped_by_term() -> Iterator[None]:
    """Let SIGTERM and SIGUSR1 unwind the block as Ctrl-C does, so that trainings are ended too."""

    def stop(_number: int, _frame: Optional[FrameType]) -> None:
        raise KeyboardInterrupt

    before = {number: signal.signal(number, stop) for number in STOPPING}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
