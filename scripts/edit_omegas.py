"""Other omegas than the measured ones, in the profile of a model: to ask which of them matter.

``admin-fairseq train`` and ``sweep`` train from such a profile with ``--profile OUT``. Variances
stay as they were measured: fairseq-train then warns that omegas do not follow from them.
"""

import argparse
import math
import random
from collections import OrderedDict
from dataclasses import replace

from admin_fairseq.errors import AdminError
from admin_fairseq.profile.data import Profile
from admin_fairseq.profile.file import load, save
from admin_fairseq.sites import stack_of

WAYS = {
    "ones": "all are 1: Post-LN whose omegas can be learned",
    "shuffled": "those of a stack in another order, drawn with --seed",
    "reversed": "those of a stack in reversed order: the first site has the largest",
    "root-mean-square": "every site of a stack has the root mean square of all",
}


def edit(profile: Profile, way: str, seed: int = 1) -> Profile:
    """Return a profile of the same measurements with other omegas; ``way``: one of WAYS."""
    generator = random.Random(seed)
    omegas: dict[str, float] = {}
    for stack, measured in profile.stacks.items():
        if way == "ones":
            edited = [1.0] * len(measured)
        elif way == "shuffled":
            edited = generator.sample(measured, len(measured))
        elif way == "reversed":
            edited = measured[::-1]
        else:
            edited = [math.hypot(*measured) / math.sqrt(len(measured))] * len(measured)
        names = [name for name in profile.sites if stack_of(name) == stack]
        omegas.update(zip(names, edited))
    sites = OrderedDict(
        (name, replace(site, omega=omegas[name], recursion=None))
        for name, site in profile.sites.items()
    )
    how = f"{way}, seed {seed}" if way == "shuffled" else way
    return Profile(sites, {**profile.provenance, "edited": how})


def main() -> None:
    """Read a profile, edit it, and write it to another file."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        epilog="\n".join(f"{way:<18}{what}" for way, what in WAYS.items()),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("profile", help="a measured profile")
    parser.add_argument("way", choices=WAYS)
    parser.add_argument("out", metavar="OUT", help="the profile to write")
    parser.add_argument("--seed", type=int, default=1, help="of the order of shuffled (default: 1)")
    args = parser.parse_args()
    try:
        save(edit(load(args.profile), args.way, args.seed), args.out)
    except (AdminError, OSError) as error:
        raise SystemExit(f"edit_omegas.py: error: {error}") from None


if __name__ == "__main__":
    main()
