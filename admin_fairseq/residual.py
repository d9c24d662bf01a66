"""Residual sites: the equations of Admin and of the methods it is compared with, each in one place.

A site adds the output of a branch, f(x) after its dropout, to its shortcut, x. Every connection of
a model is one, so that whatever looks at sites (profiling, analysis, folding) sees all models alike.
In a Post-LN Transformer a LayerNorm follows:

    x_i = LN( b_i * f_i(x_{i-1}) + s_i * x_{i-1} )

with b = s = 1 in a plain one. Admin (Liu et al., EMNLP 2020, arXiv 2004.08249, section 4.3) has
s_i = omega_i in R^C, learnable.
"""

from collections import OrderedDict

import torch
from torch import nn

# name of a site in its layer -> the modules of its branch
BRANCHES = {
    "self_attn_residual": ("self_attn",),
    "encoder_attn_residual": ("encoder_attn",),
    "ffn_residual": ("fc1", "fc2"),
}


class Residual(nn.Module):
    """A plain residual connection, ``branch + shortcut``, without parameters.

    Attributes:
        omega: None; the parameter of shape (C,) in an :class:`OmegaResidual`.
        shortcut_scale: s of the equation above: a number, or a tensor of shape (C,).
        branch_scale: b of the equation above: a number, or a tensor of shape (1,).

    fairseq's tensors are T x B x C; any shape that ends in C will do.
    """

    shortcut_scale = 1.0
    branch_scale = 1.0

    def __init__(self):
        super().__init__()
        self.register_parameter("omega", None)

    def forward(self, branch, shortcut):
        """Add ``branch`` = f(x), after its dropout, to ``shortcut`` = x; both T x B x C."""
        return shortcut + branch


class OmegaResidual(Residual):
    """Admin: ``branch + omega * shortcut``, with one scale per channel.

    Args:
        embed_dim: C, the number of channels.
        start: the value of all C elements; with omega = 1 a connection computes the same bits as a
            plain one.
    """

    def __init__(self, embed_dim, start=1.0):
        super().__init__()
        self.omega = nn.Parameter(torch.full((embed_dim,), float(start)))

    @property
    def shortcut_scale(self):
        return self.omega

    def forward(self, branch, shortcut):
        return torch.addcmul(branch, shortcut, self.omega)

    def extra_repr(self):
        return str(len(self.omega))


class ConstantResidual(Residual):
    """``branch + alpha * shortcut`` with a constant: DeepNorm, and the closed-form omega held fixed.

    The buffer ``alpha`` lets checkpoints say what they were trained with; what is computed is a number
    that half precision does not round.
    """

    def __init__(self, alpha):
        super().__init__()
        self.shortcut_scale = float(alpha)
        self.register_buffer("alpha", torch.tensor(float(alpha)))

    def forward(self, branch, shortcut):
        return torch.add(branch, shortcut, alpha=self.shortcut_scale)

    def extra_repr(self):
        return f"alpha={self.shortcut_scale:.6g}"


class ReZeroResidual(Residual):
    """ReZero: ``shortcut + resweight * branch`` (Bachlechner et al., 2020, arXiv 2003.04887, section 3).

    Args:
        resweight: the parameter of shape (1,) that the sites of a layer share. It is the layer's: were it
            registered at every site, whatever walks a state dict (fairseq's EMA) would meet it thrice.
    """

    def __init__(self, resweight):
        super().__init__()
        object.__setattr__(self, "branch_scale", resweight)

    def forward(self, branch, shortcut):
        return torch.addcmul(shortcut, branch, self.branch_scale)


def named_sites(model):
    """Return ``{module path: Residual}`` of a model, in forward order within each stack."""
    return OrderedDict(
        (name, module) for name, module in model.named_modules() if isinstance(module, Residual)
    )


def branch_matrices(layer, role):
    """Return the weight matrices of the branch that a layer's site ``role`` adds: no biases, no LayerNorms."""
    return [
        weight
        for part in BRANCHES[role]
        for weight in getattr(layer, part).parameters()
        if weight.dim() == 2
    ]
