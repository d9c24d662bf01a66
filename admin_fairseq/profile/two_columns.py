"""The authors' ``profile.ratio.init``: two columns, without names or header.

The first is a running number, which starts again at 1 for the decoder, the second omega.
"""

import re
from collections import OrderedDict

from ..sites import STACKS, roles_of
from .checks import number_in
from .data import Profile, SiteProfile


def parse_two_columns(text: str) -> Profile:
    """Return the Profile that a text of two columns tells.

    Raises:
        ValueError: if it is something else, or cut short.
    """
    stacks: list[list[float]] = []
    for number, line in enumerate(text.rstrip("\n").split("\n"), 1):
        cells = line.split()
        # int() would also take 1_000, and the digits of other scripts
        if len(cells) != 2 or not re.fullmatch("[0-9]{1,6}", cells[0]):
            raise ValueError(
                f"not a profile: line {number} is neither '# Admin profile' nor 'number omega'"
            )
        place, omega = int(cells[0]), number_in(cells[1], number)
        if place == 1:
            stacks.append([])
        if not stacks or place != len(stacks[-1]) + 1:
            raise ValueError(f"line {number}: number {cells[0]} is out of order")
        stacks[-1].append(omega)
    return Profile(_named(stacks), OrderedDict(format="two columns (profile.ratio.init)"))


def _named(stacks: list[list[float]]) -> OrderedDict[str, SiteProfile]:
    """Give the omegas of an encoder and a decoder, a list each, the names of their sites."""
    whole = len(stacks) == len(STACKS)
    for stack, omegas in zip(STACKS, stacks):
        # there is no line that says the end: only whole layers tell a whole file
        whole = whole and len(omegas) % len(roles_of(stack)) == 0
    if not whole:
        found = " and ".join(str(len(omegas)) for omegas in stacks[:10]) or "no"
        raise ValueError(
            f"the two-column profile is cut short: {found} sites, "
            "where an encoder has 2 a layer and a decoder 3"
        )
    sites = OrderedDict()
    for stack, omegas in zip(STACKS, stacks):
        roles = roles_of(stack)
        for i, omega in enumerate(omegas):
            layer, role = divmod(i, len(roles))
            sites[f"{stack}.layers.{layer}.{roles[role].name}"] = SiteProfile(omega)
    return sites
