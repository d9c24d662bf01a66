"""``admin-fairseq report``: its flags."""

import os
from argparse import Namespace
from typing import Any


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
    command.set_defaults(run=_run)


def _run(args: Namespace) -> None:
    from .write import write_report

    out = args.out or os.path.join(os.path.dirname(os.path.abspath(args.results)), "report")
    write_report(args.results, out, args.recipes)
