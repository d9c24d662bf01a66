"""A profile as data: what was measured at each site, and where the numbers come from. No torch, no fairseq."""

from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Dict, Optional

from ..sites import first_sites as first_sites
from ..sites import stack_of as stack_of


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
    provenance: Dict[str, str] = field(default_factory=OrderedDict)

    @property
    def omega(self):
        """Ordered dict, site name -> omega (a float)."""
        return OrderedDict((name, site.omega) for name, site in self.sites.items())

    @property
    def stacks(self):
        """Ordered dict, stack -> its omegas in forward order."""
        stacks = OrderedDict()
        for name, omega in self.omega.items():
            stacks.setdefault(stack_of(name), []).append(omega)
        return stacks
