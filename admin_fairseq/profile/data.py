"""A profile as data: what was measured at each site, and where the numbers come from. No torch, no fairseq."""

from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Dict, Optional


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


def stack_of(site_name):
    """Return the stack that a site accumulates in, ``encoder`` or ``decoder``."""
    return site_name.split(".", 1)[0]


def first_sites(site_names):
    """Return the first site of every stack: the ones whose omega is 1 by definition."""
    first = OrderedDict()
    for name in site_names:
        first.setdefault(stack_of(name), name)
    return list(first.values())
