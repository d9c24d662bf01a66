"""``admin-fairseq report`` and ``admin-fairseq curves``: their flags."""

import os
from argparse import Namespace
from pathlib import Path
from typing import Any

from ...errors import AdminError, raise_all
from ..values import amount


def add_parser(commands: Any) -> None:
    """Add ``report`` to the subcommands of ``admin-fairseq``."""
    command = commands.add_parser(
        "report",
        help="tables, significance and learning curves of a results.tsv",
        description="Write report.md, report.html, report.tex, report.csv and the learning "
        "curves of a results.tsv. Published numbers are those of the package's own recipes.",
    )
    command.add_argument("results", help="the results.tsv that admin-fairseq evaluate wrote")
    command.add_argument(
        "--out",
        metavar="DIR",
        help="the folder of the report (default: report, beside results.tsv)",
    )
    command.add_argument(
        "--recipes",
        metavar="DIR",
        help="recipe files of your own, for published numbers; one that has the name of a recipe "
        "of the package takes its place",
    )
    command.add_argument(
        "--updates-to",
        metavar="BITS",
        nargs="+",
        type=amount,
        default=[],
        help="validation losses in bits a token: tables have the updates to each of them too",
    )
    command.set_defaults(run=_run)


def add_curves_parser(commands: Any) -> None:
    """Add ``curves`` to the subcommands of ``admin-fairseq``."""
    command = commands.add_parser(
        "curves",
        help="learning curves of trainings, evaluated or not",
        description="Draw the validation loss of trainings against their updates, whether or not "
        "they are done, and whoever started them.",
    )
    command.add_argument(
        "curves",
        nargs="+",
        metavar="NAME=RUN",
        help="a name for the figure, and a log of fairseq-train or a folder with its train.log",
    )
    command.add_argument("--out", required=True, metavar="OUT.png", help="the figure to write")
    command.set_defaults(run=_run_curves)


def _run(args: Namespace) -> None:
    from .write import write_report

    out = args.out or os.path.join(os.path.dirname(os.path.abspath(args.results)), "report")
    write_report(args.results, out, args.recipes, args.updates_to)


def _run_curves(args: Namespace) -> None:
    from . import curves

    found: dict[str, curves.Curve] = {}
    problems = []
    for word in args.curves:
        name, equals, place = word.partition("=")
        log = Path(place) / "train.log" if os.path.isdir(place) else Path(place)
        if not equals or not name:
            problems.append(f"{word}: must be NAME=RUN")
        elif name in found:
            problems.append(f"{word}: {name} appears twice")
        else:
            found[name] = curves.read_curve(log)
            if not found[name]:
                problems.append(f"{word}: {log} is missing, or has no validation in it")
    raise_all("these curves cannot be drawn:", problems)
    try:
        curves.draw(Path(args.out), found)
    except (OSError, ValueError) as error:  # ValueError: of an ending that names no format
        raise AdminError(f"--out {args.out}: {error}") from None
