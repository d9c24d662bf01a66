"""The authors' ``profile.ratio.init``: two columns, without names or header.

The first is a running number, which starts again at 1 for the decoder, the second omega.
"""

import re
from collections import OrderedDict

from .checks import number_in
from .data import Profile, SiteProfile

ENCODER_SITES = ("self_attn_residual", "ffn_residual")
DECODER_SITES = ("self_attn_residual", "encoder_attn_residual", "ffn_residual")


def parse_two_columns(text):
    """Return the Profile that a text of two columns tells; ValueError if it is something else, or cut short."""
    stacks = []
    for number, line in enumerate(text.rstrip("\n").split("\n"), 1):
        cells = line.split()
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


def _named(stacks):
    """Give the omegas of two stacks, a list each, the names of their sites."""
    if (
        len(stacks) != 2
        or len(stacks[0]) % len(ENCODER_SITES)
        or len(stacks[1]) % len(DECODER_SITES)
    ):
        found = " and ".join(str(len(stack)) for stack in stacks[:10]) or "no"
        raise ValueError(
            f"the two-column profile is cut short: {found} sites, where an encoder has 2 a layer and a decoder 3"
        )
    sites = OrderedDict()
    for stack, kinds, omegas in zip(("encoder", "decoder"), (ENCODER_SITES, DECODER_SITES), stacks):
        for i, omega in enumerate(omegas):
            name = f"{stack}.layers.{i // len(kinds)}.{kinds[i % len(kinds)]}"
            sites[name] = SiteProfile(omega)
    return sites
