"""GPUs by name: what their makers say of peak arithmetic and memory."""

import re
from dataclasses import dataclass

from ...errors import AdminError


@dataclass(frozen=True)
class Gpu:
    """A GPU.

    Attributes:
        name: as tables have it.
        tflops: its peak for dense half-precision products, in 1e12 operations a second.
        memory: in GiB.
    """

    name: str
    tflops: float
    memory: float


# NVIDIA's data sheets: FP16 tensor cores without sparsity; SXM where there are several forms
KNOWN = (
    Gpu("P100", 21.2, 16),
    Gpu("V100", 125, 32),
    Gpu("T4", 65, 16),
    Gpu("A10", 125, 24),
    Gpu("A40", 149.7, 48),
    Gpu("A6000", 154.8, 48),
    Gpu("A100", 312, 80),
    Gpu("L4", 121, 24),
    Gpu("L40S", 362, 48),
    Gpu("RTX3090", 71, 24),
    Gpu("RTX4090", 165.2, 24),
    Gpu("H100", 989.4, 80),
    Gpu("H200", 989.4, 141),
    Gpu("B200", 2250, 180),
)
_TEXT = re.compile(
    r"(?:(?P<count>[1-9]\d{0,4}) ?x ?)?(?P<name>[A-Za-z][A-Za-z0-9]*)(?:-(?P<gb>[1-9]\d{0,3})GB)?"
)


def read_gpus(text: str) -> tuple[int, Gpu]:
    """Read ``8xA100``, ``A100`` or ``16xV100-16GB``: how many, and which.

    Raises:
        AdminError: for anything else; the message lists the names.
    """
    match = _TEXT.fullmatch(text.strip())
    found = None
    for gpu in KNOWN:
        if match and gpu.name.lower() == match["name"].lower():
            found = gpu
    if match is None or found is None:
        names = ", ".join(gpu.name for gpu in KNOWN)
        raise AdminError(
            f"--gpus {text}: must be [NUMBERx]NAME[-MEMORYGB], such as 8xA100 or 4xV100-16GB; "
            f"names are {names}"
        )
    memory = float(match["gb"]) if match["gb"] else found.memory
    return int(match["count"] or 1), Gpu(found.name, found.tflops, memory)
