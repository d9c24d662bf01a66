"""The residual site: the one equation of Admin, and the one place where it is computed.

Admin (Liu et al., EMNLP 2020, arXiv 2004.08249, section 4.3) scales the shortcut of every
residual connection in a Post-LN Transformer:

    x_i = LN( f_i(x_{i-1}) + omega_i * x_{i-1} )        omega_i in R^C, learnable

This module computes what stands inside the LayerNorm.
"""

from collections import OrderedDict

import torch
from torch import nn


class OmegaResidual(nn.Module):
    """``branch + omega * shortcut``, with one scale per channel.

    Args:
        embed_dim: C, the number of channels.
        scaled: False makes a plain residual connection without parameters, ``shortcut + branch``.

    Attributes:
        omega: parameter of shape (C,) that starts at ones, or None if not scaled. A connection
            with omega = 1 computes the same bits as a plain one.

    fairseq's tensors are T x B x C; any shape that ends in C will do.
    """

    def __init__(self, embed_dim, scaled=True):
        super().__init__()
        self.embed_dim = embed_dim
        if scaled:
            self.omega = nn.Parameter(torch.ones(embed_dim))
        else:
            self.register_parameter("omega", None)

    def forward(self, branch, shortcut):
        """Add ``branch`` = f(x), after its dropout, to the scaled ``shortcut`` = x; T x B x C."""
        if self.omega is None:
            return shortcut + branch
        return torch.addcmul(branch, shortcut, self.omega)

    def extra_repr(self):
        return f"{self.embed_dim}, scaled={self.omega is not None}"


def named_sites(model):
    """Return ``{module path: OmegaResidual}`` of a model, in forward order within each stack."""
    return OrderedDict(
        (name, module) for name, module in model.named_modules() if isinstance(module, OmegaResidual)
    )


def stack_of(site_name):
    """Return the stack that a site accumulates in, ``encoder`` or ``decoder``."""
    return site_name.split(".", 1)[0]


def first_sites(site_names):
    """Return the first site of every stack: the ones whose omega is 1 by definition."""
    first = OrderedDict()
    for name in site_names:
        first.setdefault(stack_of(name), name)
    return list(first.values())
