"""What a run is made with: the machine's GPUs and processor, versions, the repository's commit."""

import contextlib
import importlib.metadata
import os
import platform
import subprocess
from dataclasses import dataclass
from pathlib import Path

from .settings import Settings

REPOSITORY = Path(__file__).resolve().parents[3]


def commit() -> str:
    """Return the repository's commit, ``+`` after it if files differ.

    ``unknown`` outside of a clone, such as for an installed wheel.
    """
    if not (REPOSITORY / ".git").exists():  # a wheel's site-packages may lie in another's clone
        return "unknown"
    try:
        number = _git("rev-parse", "--short=12", "HEAD")
        differs = _git("status", "--porcelain", "-uno")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return number + "+" if differs else number


def _git(*words: str) -> str:
    return subprocess.run(
        ["git", "-C", str(REPOSITORY), *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        check=True,
    ).stdout.strip()


def versions() -> str:
    """Return the releases that results depend on, as text."""
    found = [f"python {platform.python_version()}"]
    for name in ("torch", "ve-fairseq", "fairseq", "numpy", "sacrebleu", "sacremoses"):
        version = _version(name)
        if version and not (name == "fairseq" and _version("ve-fairseq")):
            found.append(f"{name} {version}")
    return ", ".join(found)


def _version(name: str) -> str:
    with contextlib.suppress(importlib.metadata.PackageNotFoundError):
        return importlib.metadata.version(name)
    return ""


@dataclass(frozen=True)
class Gpu:
    """A GPU: its word in CUDA_VISIBLE_DEVICES, and its name."""

    word: str
    name: str


def visible_gpus() -> list[Gpu]:
    """Return the NVIDIA GPUs that a training would see, without importing torch.

    They are those that ``nvidia-smi`` lists, and of these the ones that ``CUDA_VISIBLE_DEVICES``
    names, which are numbers or what begins with ``GPU-`` or ``MIG-``; as for CUDA, the first that
    does not exist, or that was named before, ends the list. A torch that was built for the CPU sees
    none.
    """
    if "+cpu" in _version("torch"):
        return []
    try:
        names = subprocess.run(
            ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            check=True,
        ).stdout.splitlines()
    except (OSError, subprocess.CalledProcessError):
        return []
    wanted = os.environ.get("CUDA_VISIBLE_DEVICES")
    if wanted is None or not names:
        return [Gpu(str(number), name) for number, name in enumerate(names)]
    found: dict[str, Gpu] = {}
    for word in (text.strip() for text in wanted.split(",")):
        if word.isdecimal() and int(word) < len(names):
            gpu = Gpu(str(int(word)), names[int(word)])
        elif word.startswith(("GPU-", "MIG-")):
            gpu = Gpu(word, names[0])
        else:
            break
        if gpu.word in found:
            break
        found[gpu.word] = gpu
    return list(found.values())


def gpus() -> list[str]:
    """Return the names of the GPUs that a training would see."""
    return [gpu.name for gpu in visible_gpus()]


def defaults() -> tuple[bool, int]:
    """Return (cpu, processes): all visible GPUs, or else one process on the CPU."""
    count = len(gpus())
    return count == 0, max(1, count)


def hardware(settings: Settings) -> str:
    """Return the devices of a run, as text: ``4 x NVIDIA A100`` or ``1 x AMD EPYC (CPU)``."""
    gpu = (gpus() or ["GPU"])[0]
    name = f"{_processor()} (CPU{_threads()})" if settings.cpu else gpu
    machines = f" on {settings.nodes} machines" if settings.nodes > 1 else ""
    return f"{settings.processes} x {name}{machines}"


def _processor() -> str:
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def _threads() -> str:
    threads = os.environ.get("OMP_NUM_THREADS")
    if not threads:
        return ""
    return f", {threads} thread{'s' if threads != '1' else ''}"
