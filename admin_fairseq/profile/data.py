"""A profile as data: what was measured at each site, and where the numbers come from."""

from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Optional

from ..sites import stack_of


@dataclass
class SiteProfile:
    """What was measured at one site.

    Attributes:
        omega: what a model is filled with.
        branch_variance: None where a file does not tell it; so is ``shortcut_variance``.
        shortcut_variance: of omega times x, with the recursion's omega.
        recursion: the recursion's omega, where ``omega`` is another (``shape``).
    """

    omega: float
    branch_variance: Optional[float] = None
    shortcut_variance: Optional[float] = None
    recursion: Optional[float] = None

    @property
    def of_recursion(self) -> float:
        """The recursion's omega, whatever a model is filled with."""
        return self.omega if self.recursion is None else self.recursion


@dataclass
class Profile:
    """Site name -> measurement, in forward order, and where the numbers come from.

    ``shape`` is one of ``init_types.OMEGA_SHAPES``.
    """

    sites: OrderedDict[str, SiteProfile] = field(default_factory=OrderedDict)
    provenance: dict[str, str] = field(default_factory=OrderedDict)
    shape: str = "recursion"

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
