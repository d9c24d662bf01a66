"""The head of the report: which machine, and which releases."""

import os
import platform
import subprocess
from pathlib import Path

import fairseq
import numpy
import torch

from admin_fairseq.version import __version__
from tests.gpu.settings import Result
from tests.helpers import REPOSITORY


def machine(settings):
    """Name what the numbers below it were measured on and with."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    lines = [
        f"admin_fairseq {__version__}, commit {commit()}",
        f"fairseq {fairseq.__version__}, torch {torch.__version__}, numpy {numpy.__version__}, "
        f"Python {platform.python_version()}",
        f"CUDA {torch.version.cuda}, driver {driver()}, cuDNN {torch.backends.cudnn.version()}",
        f"{platform.system()} {platform.machine()}, {cores} cores",
        f"corpus: {settings.data or 'generated'}",
    ]
    name = "a CPU: a rehearsal with small models, which says nothing of a GPU"
    if settings.device == "cuda":
        properties = torch.cuda.get_device_properties(0)
        name = f"{properties.name}, {properties.total_memory / 2**30:.0f} GiB, "
        name += f"compute capability {properties.major}.{properties.minor}"
        name += f", one of {torch.cuda.device_count()}"
        lines.append(f"TF32 in float32 products: {torch.backends.cuda.matmul.allow_tf32}")
    return Result("machine", name, details=lines)


def commit():
    """Return the commit, and whether files differ from it."""
    if not (Path(REPOSITORY) / ".git").exists():
        return "unknown (this is not a clone)"
    words = ["git", "-C", str(REPOSITORY), "describe", "--always", "--dirty", "--abbrev=12"]
    return first_line(words)


def driver():
    return first_line(["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"])


def first_line(command):
    """Return the first line that a command prints; ``unknown`` where it is not there or fails."""
    try:
        result = subprocess.run(command, capture_output=True, text=True, timeout=20)
    except (OSError, subprocess.TimeoutExpired):
        return "unknown"
    lines = result.stdout.split("\n")
    return lines[0] if result.returncode == 0 and lines[0] else "unknown"
