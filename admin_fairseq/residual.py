"""Residual sites: the equations of Admin and of the methods it is compared with, each in one place.

A site adds the output of a branch, f(x) after its dropout, to its shortcut, x. Every connection of
a model is one, so that whatever looks at sites (profiling, analysis, folding) sees all models
alike. In a Post-LN Transformer a LayerNorm follows:

    x_i = LN( b_i * f_i(x_{i-1}) + s_i * x_{i-1} )

with b = s = 1 in a plain one. Admin (Liu et al., EMNLP 2020, arXiv 2004.08249, section 4.3) has
s_i = omega_i in R^C, learnable. fairseq's tensors are T x B x C; any shape that ends in C will do.
"""

from __future__ import annotations

from typing import Any, Union

import torch
from torch import Tensor, nn

from . import moved

_Scale = Union[float, Tensor]


class Residual(nn.Module):
    """A plain residual connection, ``branch + shortcut``, without parameters.

    Attributes:
        omega: None; the parameter of shape (C,) in an :class:`OmegaResidual`.
    """

    omega: nn.Parameter | None

    def __init__(self) -> None:
        super().__init__()
        # a parameter that is None: every site has the attribute, and state dicts hold nothing
        self.register_parameter("omega", None)

    @property
    def shortcut_scale(self) -> _Scale:
        """The s of the equation above: a number, or a tensor of shape (C,)."""
        return 1.0

    @property
    def branch_scale(self) -> _Scale:
        """The b of the equation above: a number, or a tensor of shape (1,)."""
        return 1.0

    def forward(self, branch: Tensor, shortcut: Tensor) -> Tensor:
        """Add ``branch`` = f(x), after its dropout, to ``shortcut`` = x; both T x B x C."""
        return shortcut + branch


class OmegaResidual(Residual):
    """Admin: ``branch + omega * shortcut``, with one scale per channel.

    Args:
        embed_dim: C, the number of channels.
        start: the value of all C elements; with omega = 1 a connection computes the same bits as a
            plain one.
    """

    omega: nn.Parameter

    def __init__(self, embed_dim: int, start: float = 1.0) -> None:
        super().__init__()
        self.omega = nn.Parameter(torch.full((embed_dim,), float(start)))

    @property
    def shortcut_scale(self) -> Tensor:
        """omega, of shape (C,)."""
        return self.omega

    def forward(self, branch: Tensor, shortcut: Tensor) -> Tensor:
        """Return ``branch + omega * shortcut``; all T x B x C."""
        # one kernel: the product of omega and shortcut is never written to memory
        return torch.addcmul(branch, shortcut, self.omega)

    def extra_repr(self) -> str:
        """Return C, for the model that fairseq prints."""
        return str(len(self.omega))


class ConstantResidual(Residual):
    """``branch + alpha * shortcut``: DeepNorm, and the closed-form omega held fixed.

    The buffer ``alpha`` lets checkpoints say what they were trained with; what is computed is a
    number that half precision does not round.
    """

    def __init__(self, alpha: float) -> None:
        super().__init__()
        self._number = float(alpha)
        self.register_buffer("alpha", torch.tensor(self._number))

    @property
    def shortcut_scale(self) -> float:
        """alpha, unrounded."""
        return self._number

    def forward(self, branch: Tensor, shortcut: Tensor) -> Tensor:
        """Return ``branch + alpha * shortcut``; all T x B x C."""
        return torch.add(branch, shortcut, alpha=self._number)

    def extra_repr(self) -> str:
        """Return alpha, for the model that fairseq prints."""
        return f"alpha={self._number:.6g}"


class ReZeroResidual(Residual):
    """ReZero: ``shortcut + resweight * branch`` (Bachlechner et al., 2020, arXiv 2003.04887).

    Args:
        resweight: the parameter of shape (1,) that the sites of a layer share.
    """

    _resweight: nn.Parameter

    def __init__(self, resweight: nn.Parameter) -> None:
        super().__init__()
        # it is the layer's: were it registered at every site, whatever walks a state dict
        # (fairseq's EMA) would meet it three times
        object.__setattr__(self, "_resweight", resweight)

    @property
    def branch_scale(self) -> Tensor:
        """The layer's resweight, of shape (1,)."""
        return self._resweight

    def forward(self, branch: Tensor, shortcut: Tensor) -> Tensor:
        """Return ``shortcut + resweight * branch``; all T x B x C."""
        return torch.addcmul(shortcut, branch, self.branch_scale)


def __getattr__(name: str) -> Any:
    return moved.name_of(__name__, name)
