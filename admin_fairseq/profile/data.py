"""A profile as data: what was measured at each site, and where the numbers come from."""

from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Optional

from ..sites import stack_of


@dataclass
class SiteProfile:
    """What was measured at one site. Variances are None where a file does not tell them."""

    omega: float
    branch_variance: Optional[float] = None
    shortcut_variance: Optional[float] = None


@dataclass
class Profile:
    """Site name -> measurement, in forward order, and where the numbers come from."""

    sites: OrderedDict[str, SiteProfile] = field(default_factory=OrderedDict)
    provenance: dict[str, str] = field(default_factory=OrderedDict)

    @property
    def omega(self) -> OrderedDict[str, float]:
        """Site name -> omega, in forward order."""
        return OrderedDict((name, site.omega) for name, site in self.sites.items())

    @property
    def stacks(self) -> OrderedDict[str, list[float]]:
        """Stack -> its omegas in forward order."""
        stacks: OrderedDict[str, list[float]] = OrderedDict()
        for name, omega in self.omega.items():
            stacks.setdefault(stack_of(name), []).append(omega)
        return stacks
