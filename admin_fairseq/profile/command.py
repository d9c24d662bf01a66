"""``admin-fairseq profile``: a profile as a table, or a figure."""

from argparse import Namespace
from typing import Any

from ..errors import AdminError
from . import file as profile_file
from .data import Profile
from .shape import with_shape
from .text import SHAPE, table


def add_parser(commands: Any) -> None:
    """Add ``profile`` to the subcommands of ``admin-fairseq``."""
    command = commands.add_parser("profile", help="print a profile as a table, or draw it")
    command.add_argument("path", help="the profile: ours, or the authors' profile.ratio.init")
    command.add_argument("--plot", metavar="OUT.png", help="draw omega against depth, both stacks")
    command.add_argument(
        "--renew-checksum",
        action="store_true",
        help="first give a profile that was edited by hand a right checksum",
    )
    command.set_defaults(run=_run)


def _run(args: Namespace) -> None:
    if args.renew_checksum:
        profile_file.renew_checksum(args.path)
    profile = profile_file.load(args.path)
    print(f"{SHAPE}: {profile.shape}")
    for key, value in profile.provenance.items():
        print(f"{key}: {value}")
    print()
    print(table(profile))
    if args.plot:
        _draw(profile, args.plot)


def _lines(profile: Profile) -> dict[str, list[float]]:
    """Return what a figure shows: the omegas of each stack, and the recursion's where others."""
    lines = dict(profile.stacks)
    if profile.shape != "recursion":
        for stack, omegas in with_shape(profile, "recursion").stacks.items():
            lines[f"{stack}, recursion"] = omegas
    return lines


def _draw(profile: Profile, path: str) -> None:
    from .. import plots  # here, since importing matplotlib takes longer than all else

    try:
        plots.save_figure(path, lambda axis: plots.draw_omega(axis, _lines(profile)))
    # ValueError: matplotlib does not know the file's ending
    except (OSError, ValueError) as error:
        raise AdminError(f"--plot {path}: {error}") from None
