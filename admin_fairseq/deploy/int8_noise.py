"""What int8 loses: near-zero omegas make its noise larger, and some processors cut its sums."""

import logging
import os
import re
from collections.abc import Mapping
from pathlib import Path

import torch

from ..sites import stack_sites
from .fold import Folded

logger = logging.getLogger(__name__)
_NOISY = 4.0  # growth of the noise from which on there is a warning: two of int8's bits
_CPUINFO = "/proc/cpuinfo"
_TINY = 1e-30  # keeps rows of zeros from a division by 0


def noise_growth(folded: Folded) -> dict[str, float]:
    """Return ``{weight: by how much folding makes int8's rounding noise larger}``.

    int8 stores each row of a matrix with one step, its largest element / 127. A column that was
    divided by a small omega makes that step larger for all columns of its row; the input of the
    others is not smaller. For inputs of equal size, the noise of a row grows by
    max_j |W_ij / s_j| * rms(s) / max_j |W_ij|; this is its mean over rows. It is 1 where all
    omegas of a site are equal.
    """
    growth = {}
    for stack, scales in folded.scales.items():
        for site, scale in zip(stack_sites(folded.args, stack), scales):
            for reader in site.readers:
                weight = folded.weights[f"{reader}.weight"].double()
                growth[f"{reader}.weight"] = _growth(weight, scale)
    return growth


def _growth(folded: torch.Tensor, scale: torch.Tensor) -> float:
    """The mean growth of a matrix's rows (out, C), which was divided by ``scale`` (C,)."""
    largest = folded.abs().amax(1)
    # the fold undone, so that no second set of weights is needed
    largest_before = (folded * scale).abs().amax(1).clamp_min(_TINY)
    rms = scale.pow(2).mean().sqrt()
    return (largest * rms / largest_before).mean().item()


def warn_of_noise(folded: Folded) -> None:
    """Log a warning where near-zero omegas cost int8 much of its precision."""
    noisy = {name: growth for name, growth in noise_growth(folded).items() if growth > _NOISY}
    if noisy:
        worst = max(noisy, key=lambda name: noisy[name])
        logger.warning(
            "omegas near 0 make the rounding noise of int8 larger in %d matrices, up to %.0f times "
            "(%s): compare BLEU with float32's, or use --quantization float16",
            len(noisy), noisy[worst], worst,
        )  # fmt: skip


def warn_of_cut_sums() -> None:
    """Warn where CTranslate2's int8 on this processor is worse than int8 need be."""
    path = Path(_CPUINFO)
    if path.exists() and cuts_sums(path.read_text(errors="replace"), os.environ):
        logger.warning(
            "this processor has no VNNI instructions: there CTranslate2 adds int8 products in 16 "
            "bits, where large sums are cut. It computes them rightly with CT2_USE_MKL=1 in the "
            "environment, here and where the model serves"
        )


def cuts_sums(cpuinfo: str, environ: Mapping[str, str]) -> bool:
    """Say whether CTranslate2's int8 products saturate on a processor.

    Without VNNI, oneDNN multiplies int8 by an instruction that adds two products in 16 bits and
    cuts what does not fit (oneDNN developer guide, "Nuances of int8 Computations"). CTranslate2
    takes oneDNN on x86 processors that are not Intel's, unless told to take MKL, which does not
    cut (measured: nmt-experiments/serving.md).

    Args:
        cpuinfo: what Linux tells of the processors, in the format of /proc/cpuinfo.
        environ: the environment of CTranslate2's process.
    """
    vendor = re.search(r"^vendor_id\s*:\s*(\S+)", cpuinfo, re.M)
    flags = re.search(r"^flags\s*:(.*)", cpuinfo, re.M)
    if not vendor or not flags:
        return False  # no x86
    vnni = {"avx512_vnni", "avx_vnni"} & set(flags[1].split())
    mkl = environ.get("CT2_USE_MKL", "0")
    return vendor[1] != "GenuineIntel" and not vnni and mkl.lower() in ("0", "false", "")
