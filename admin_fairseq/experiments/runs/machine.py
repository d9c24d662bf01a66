"""What a run was made with, and how long it took: commit, versions, hardware, wall-clock."""

import contextlib
import importlib.metadata
import os
import platform
import signal
import subprocess
import time
from pathlib import Path

from ..processes import ending_with_us

REPOSITORY = Path(__file__).resolve().parent.parent.parent


def commit():
    """Return the repository's commit, ``+`` after it if files differ; ``unknown`` outside of a clone."""

    def git(*words):
        return subprocess.run(
            ["git", "-C", str(REPOSITORY), *words],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            check=True,
        ).stdout.strip()

    try:
        return git("rev-parse", "--short=12", "HEAD") + (
            "+" if git("status", "--porcelain", "-uno") else ""
        )
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def versions():
    """Return the releases that results depend on, as text."""
    found = [f"python {platform.python_version()}"]
    for names in (
        ("torch",),
        ("ve-fairseq", "fairseq"),
        ("numpy",),
        ("sacrebleu",),
        ("sacremoses",),
    ):
        for name in names:
            with contextlib.suppress(importlib.metadata.PackageNotFoundError):
                found.append(f"{name} {importlib.metadata.version(name)}")
                break
    return ", ".join(found)


def hardware(settings):
    """Return the devices of a run, as text: ``4 x NVIDIA A100`` or ``1 x AMD EPYC (CPU)``."""
    if settings.cpu:
        name = platform.processor() or platform.machine()
        with contextlib.suppress(OSError):
            lines = Path("/proc/cpuinfo").read_text().splitlines()
            name = next(
                (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")),
                name,
            )
        threads = os.environ.get("OMP_NUM_THREADS")
        name += f" (CPU, {threads} thread{'s' if threads != '1' else ''})" if threads else " (CPU)"
    else:
        import torch

        name = torch.cuda.get_device_name(0) if torch.cuda.is_available() else "GPU"
    machines = f" on {settings.nodes} machines" if settings.nodes > 1 else ""
    return f"{settings.processes} x {name}{machines}"


@contextlib.contextmanager
def session(folder):
    """Note in sessions.tsv when a training began and ended. A killed one ended when its log did."""
    path = Path(folder) / "sessions.tsv"
    log = Path(folder) / "train.log"
    if path.exists() and not path.read_text().endswith("\n"):
        end = log.stat().st_mtime if log.exists() else time.time()
        with open(path, "a") as file:
            file.write(f"{end:.0f}\n")
    with open(path, "a") as file:
        file.write(f"{time.time():.0f}\t")
    try:
        yield
    finally:
        with open(path, "a") as file:
            file.write(f"{time.time():.0f}\n")


def wall_clock(folder):
    """Return the seconds that a run was trained, over all its sessions; None if it has none."""
    try:
        lines = (Path(folder) / "sessions.tsv").read_text().splitlines()
    except FileNotFoundError:
        return None
    pairs = [line.split("\t") for line in lines]
    return sum(int(pair[1]) - int(pair[0]) for pair in pairs if len(pair) == 2 and all(pair))


def end(process):
    """End a process and all that it started, if it still runs."""
    if process.poll() is None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def run(words, output):
    """Run a command to its end, its output into a file; killed, this process takes it along. Return its exit code."""
    words = [str(word) for word in words]
    return subprocess.run(
        words, stdout=output, stderr=subprocess.STDOUT, preexec_fn=end_too()
    ).returncode


def end_too():
    """Return a ``preexec_fn``; SIGTERM, on which torchrun ends the processes that it started."""
    return ending_with_us(signal.SIGTERM)


def holders(path):
    """Return the processes that have a file open: process id -> command line."""
    found = {}
    for fd in Path("/proc").glob("[0-9]*/fd/*"):
        with contextlib.suppress(OSError):  # it has ended, or is not ours to see
            if fd.samefile(path) and int(fd.parts[2]) != os.getpid():
                found[int(fd.parts[2])] = (
                    (fd.parents[1] / "cmdline")
                    .read_bytes()
                    .replace(b"\0", b" ")
                    .decode(errors="replace")
                )
    return found


def defaults():
    """Return (cpu, processes): all visible GPUs, or else one process on the CPU."""
    import torch

    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    return count == 0, max(1, count)


def stop_on_term():
    """Let SIGTERM unwind like Ctrl-C, so that trainings are ended too."""

    def stop(*_):
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, stop)
