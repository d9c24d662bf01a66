"""Residual sites: the equations of Admin and of the methods it is compared with, each in one place.

A site adds the output of a branch, f(x) after its dropout, to its shortcut, x. Every connection of
a model is one, so that whatever looks at sites (profiling, analysis, folding) sees all models alike.
In a Post-LN Transformer a LayerNorm follows:

    x_i = LN( b_i * f_i(x_{i-1}) + s_i * x_{i-1} )

with b = s = 1 in a plain one. Admin (Liu et al., EMNLP 2020, arXiv 2004.08249, section 4.3) has
s_i = omega_i in R^C, learnable.
"""

from __future__ import annotations

import torch
from torch import nn

from .sites import branch_matrices as branch_matrices
from .sites import named_sites as named_sites


class Residual(nn.Module):
    """A plain residual connection, ``branch + shortcut``, without parameters.

    Attributes:
        omega: None; the parameter of shape (C,) in an :class:`OmegaResidual`.
        shortcut_scale: s of the equation above: a number, or a tensor of shape (C,).
        branch_scale: b of the equation above: a number, or a tensor of shape (1,).

    fairseq's tensors are T x B x C; any shape that ends in C will do.
    """

    omega: nn.Parameter | None
    shortcut_scale: float | torch.Tensor = 1.0
    branch_scale: float | torch.Tensor = 1.0

    def __init__(self) -> None:
        super().__init__()
        self.register_parameter("omega", None)

    def forward(self, branch: torch.Tensor, shortcut: torch.Tensor) -> torch.Tensor:
        """Add ``branch`` = f(x), after its dropout, to ``shortcut`` = x; both T x B x C."""
        return shortcut + branch


class OmegaResidual(Residual):
    """Admin: ``branch + omega * shortcut``, with one scale per channel.

    Args:
        embed_dim: C, the number of channels.
        start: the value of all C elements; with omega = 1 a connection computes the same bits as a
            plain one.
    """

    def __init__(self, embed_dim: int, start: float = 1.0) -> None:
        super().__init__()
        self.omega = nn.Parameter(torch.full((embed_dim,), float(start)))

    @property
    def shortcut_scale(self):
        return self.omega

    def forward(self, branch: torch.Tensor, shortcut: torch.Tensor) -> torch.Tensor:
        return torch.addcmul(branch, shortcut, self.omega)

    def extra_repr(self) -> str:
        return str(len(self.omega))


class ConstantResidual(Residual):
    """``branch + alpha * shortcut`` with a constant: DeepNorm, and the closed-form omega held fixed.

    The buffer ``alpha`` lets checkpoints say what they were trained with; what is computed is a number
    that half precision does not round.
    """

    def __init__(self, alpha: float) -> None:
        super().__init__()
        self.shortcut_scale = float(alpha)
        self.register_buffer("alpha", torch.tensor(float(alpha)))

    def forward(self, branch: torch.Tensor, shortcut: torch.Tensor) -> torch.Tensor:
        return torch.add(branch, shortcut, alpha=self.shortcut_scale)

    def extra_repr(self) -> str:
        return f"alpha={self.shortcut_scale:.6g}"


class ReZeroResidual(Residual):
    """ReZero: ``shortcut + resweight * branch`` (Bachlechner et al., 2020, arXiv 2003.04887, section 3).

    Args:
        resweight: the parameter of shape (1,) that the sites of a layer share. It is the layer's: were it
            registered at every site, whatever walks a state dict (fairseq's EMA) would meet it thrice.
    """

    def __init__(self, resweight: nn.Parameter) -> None:
        super().__init__()
        object.__setattr__(self, "branch_scale", resweight)

    def forward(self, branch: torch.Tensor, shortcut: torch.Tensor) -> torch.Tensor:
        return torch.addcmul(shortcut, branch, self.branch_scale)
