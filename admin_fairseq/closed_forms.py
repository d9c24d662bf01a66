"""Scales of residual sites that need no measuring: formulas of the number of sites or layers.

They are what ``init_types`` names as the closed form of a method. No torch, no fairseq.
"""

from __future__ import annotations

import math
from typing import Any

OUTPUT_CHANGES = ("O(logn)", "O(1)", "O(n)")


def analytic_omega(n: int, output_change: str = "O(logn)") -> float:
    """Return the one omega of all n sites of a stack that gives the wanted output change.

    The output change is how far the stack's output moves when its weights do. From the later closed
    form of Admin's authors (github.com/microsoft/admin-torch): omega^2 = (n + 1) / ln(n + 1) - 1
    for ``O(logn)``, n for ``O(1)``; 1, which is Post-LN, for ``O(n)``.
    """
    squares = {"O(logn)": (n + 1) / math.log(n + 1) - 1, "O(1)": n, "O(n)": 1.0}
    return math.sqrt(squares[str(output_change)])


def deepnorm_scales(encoder_layers: int, decoder_layers: int) -> dict[str, tuple[float, float]]:
    """Return ``{stack: (alpha, beta)}`` of DeepNorm (Wang et al., 2022, arXiv 2203.00555, table 1).

    alpha scales the shortcut; beta is the Xavier gain of the weights that ``starting`` names.
    """
    n, m = encoder_layers, decoder_layers
    both = (n**4 * m) ** (1 / 16)
    return {"encoder": (0.81 * both, 0.87 / both), "decoder": ((3 * m) ** 0.25, (12 * m) ** -0.25)}


def count_sites(cfg: Any, stack: str) -> int:
    """Return n, the number of residual sites that a model with these flags has in a stack."""
    if stack == "encoder":
        return 2 * cfg.encoder_layers
    sites_of_a_layer = 2 if cfg.no_cross_attention else 3
    return sites_of_a_layer * cfg.decoder_layers


def analytic_scale(cfg: Any, stack: str) -> float:
    """Return the scale of all sites of a stack of an ``analytic`` model, from its flags."""
    output_change = getattr(cfg, "analytic_output_change", "O(logn)")
    return analytic_omega(count_sites(cfg, stack), output_change)


def deepnet_scale(cfg: Any, stack: str) -> float:
    """Return the scale of all sites of a stack of a ``deepnet`` model, from its flags."""
    alpha, _beta = deepnorm_scales(cfg.encoder_layers, cfg.decoder_layers)[stack]
    return alpha
