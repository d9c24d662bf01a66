"""``admin-fairseq prepare RECIPE``: from published archives, or from nothing, to data-bin."""

import argparse
import functools
import logging
import os
import sys
from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import Any

from ...errors import PrintableFormatter, raise_all
from ...files import StrPath, locked
from ..recipe import TO_PREPARE, Recipe, read_recipe, recipe_names
from .check import check
from .machine import check_disk, explain_os_error, missing_package
from .manifest import MANIFEST, read_manifest
from .stages import Stages


def add_parser(commands: Any) -> None:
    """Add ``prepare`` to the subcommands of ``admin-fairseq``."""
    command: ArgumentParser = commands.add_parser(
        "prepare",
        help="make the data of a recipe",
        description="Make fairseq's data-bin from the published texts: get, verify, tokenise, "
        "filter, joint BPE, binarise. Stopped at any point and started again, it goes on where it "
        "was.",
    )
    command.add_argument(
        "recipe",
        metavar="RECIPE",
        help=f"{', '.join(recipe_names())}, or the path of a recipe file of your own",
    )
    # the scripts, which name a recipe, had this flag to name another
    command.add_argument("--recipe", dest="other_recipe", help=argparse.SUPPRESS)
    command.add_argument(
        "--dest",
        metavar="DIR",
        help="where to work (default: data/RECIPE); the result is DIR/data-bin",
    )
    command.add_argument(
        "--merges", type=int, metavar="N", help="joint BPE merges (default: the recipe's)"
    )
    command.add_argument(
        "--jobs",
        type=int,
        metavar="N",
        default=os.cpu_count(),
        help="processes (default: the cores)",
    )
    command.add_argument(
        "--no-disk-check", action="store_true", help="begin even if the disk seems too small"
    )
    command.add_argument(
        "--check",
        action="store_true",
        help="download and write nothing: say whether every file is where it should be, of the "
        "bytes that are published, and whether disk and programs suffice",
    )
    _add_sources(command)
    command.set_defaults(run=run)


def _add_sources(command: ArgumentParser) -> None:
    command.add_argument(
        "--from",
        dest="from_folder",
        metavar="DIR",
        help="take the files from DIR; nothing is downloaded",
    )
    command.add_argument(
        "--manifest",
        metavar="FILE",
        default=str(MANIFEST),
        help="other addresses: a mirror of your own",
    )
    command.add_argument(
        "--news-commentary",
        choices=["v9", "v12"],
        help="WMT'14 En-De: v9 is WMT'14's, v12 the authors'",
    )


def run(args: Namespace) -> int:
    """Prepare the data of a recipe; return the exit code.

    Raises:
        AdminError: for mistakes in flags and files, and what the operating system refuses.
    """
    _log_to_stdout()
    recipe = _read(args)
    dest = Path(args.dest or Path("data") / recipe.name)
    try:
        _prepare(recipe, dest, args)
    except OSError as error:
        raise explain_os_error(error, dest) from None
    except KeyboardInterrupt:
        print("admin-fairseq prepare: stopped; the same command goes on", file=sys.stderr)
        return 130
    return 0


def _log_to_stdout() -> None:
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(PrintableFormatter("%(asctime)s %(message)s", "%H:%M:%S"))
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)


def _read(args: Namespace) -> Recipe:
    problems = []
    for flag, number in (("--jobs", args.jobs), ("--merges", args.merges)):
        if number is not None and number < 1:
            problems.append(f"{flag} {number}: must be at least 1")
    if args.from_folder and not os.path.isdir(args.from_folder):
        problems.append(f"--from {args.from_folder}: no such folder")
    raise_all("these flags cannot work:", problems)
    replaced = {}
    if args.merges is not None:
        replaced["merges"] = str(args.merges)
    if args.news_commentary:
        replaced["news_commentary"] = args.news_commentary
    return read_recipe(args.other_recipe or args.recipe, TO_PREPARE, replaced)


def _prepare(recipe: Recipe, dest: Path, args: Namespace) -> None:
    try:
        from .pipeline import Preparation
    except ModuleNotFoundError as error:
        raise missing_package(error) from None
    manifest = read_manifest(args.manifest)
    if args.check:
        check(recipe, dest, manifest, args.from_folder, not args.no_disk_check)
        return
    dest.mkdir(parents=True, exist_ok=True)
    if not args.no_disk_check:
        check_disk(dest, recipe.data.disk_gb)
    with locked(dest / "lock", wait=0, in_use=functools.partial(_in_use, dest)):
        Preparation(recipe.data, Stages(dest), manifest, args.from_folder, args.jobs).run()


def _in_use(dest: Path, _: StrPath) -> str:
    return f"{dest} is in use by another run: wait for its end, or name another --dest"
