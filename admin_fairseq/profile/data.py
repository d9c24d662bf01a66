"""A profile as data: what was measured at each site, and where the numbers come from."""

from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Optional

# the residual sites of a Transformer's layer, in forward order; an encoder's has no cross-attention
ROLES = ("self_attn_residual", "encoder_attn_residual", "ffn_residual")
WHOLE_MODEL = "model"  # the stack of sites whose path names none


@dataclass
class SiteProfile:
    """What was measured at one site. Variances are None where a file does not tell them."""

    omega: float
    branch_variance: Optional[float] = None
    shortcut_variance: Optional[float] = None


@dataclass
class Profile:
    """Site name -> measurement, in forward order, and where the numbers come from."""

    sites: "OrderedDict[str, SiteProfile]" = field(default_factory=OrderedDict)
    provenance: dict[str, str] = field(default_factory=OrderedDict)

    @property
    def omega(self) -> "OrderedDict[str, float]":
        """Site name -> omega, in forward order."""
        return OrderedDict((name, site.omega) for name, site in self.sites.items())

    @property
    def stacks(self) -> "OrderedDict[str, list[float]]":
        """Stack -> its omegas in forward order."""
        stacks: OrderedDict[str, list[float]] = OrderedDict()
        for name, omega in self.omega.items():
            stacks.setdefault(stack_of(name), []).append(omega)
        return stacks


def stack_of(site_name: str) -> str:
    """Return the stack that a site accumulates in.

    A stack is the part of a model that one sum of variances runs through. It is named by the first
    part of the site's path: ``encoder`` for ``encoder.layers.3.ffn_residual``, ``layers`` for
    ``layers.0.ffn``. Sites of which that would say nothing, as in a ``nn.Sequential`` (``0.ffn``)
    or at the top of a model (``ffn``), are one stack: :data:`WHOLE_MODEL`.
    """
    first, dot, _ = site_name.partition(".")
    return first if dot and not first.isdigit() else WHOLE_MODEL


def first_sites(site_names: Iterable[str]) -> list[str]:
    """Return the first site of every stack: the ones whose omega is 1 by definition."""
    first: OrderedDict[str, str] = OrderedDict()
    for name in site_names:
        first.setdefault(stack_of(name), name)
    return list(first.values())
