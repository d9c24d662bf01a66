"""The command line of scripts/prepare_*.sh."""

import argparse
import logging
import os
import shutil
import sys
from pathlib import Path

from ...errors import AdminError
from ..recipe import TO_PREPARE, read_recipe
from .manifest import MANIFEST, read_manifest
from .pipeline import Preparation
from .stages import Stages, check_disk, explain_os_error


def parser(script):
    result = argparse.ArgumentParser(
        prog=f"bash scripts/{script}",
        description="Make fairseq's data-bin from the published texts: get, verify, tokenise, filter, joint BPE, binarise. "
        "Stopped at any point and started again, it goes on where it was.",
    )
    result.add_argument(
        "--recipe",
        required=True,
        help="a name in nmt-experiments/recipes, or a .ini file like those",
    )
    result.add_argument(
        "--from",
        dest="from_folder",
        metavar="DIR",
        help="take the files from DIR; nothing is downloaded",
    )
    result.add_argument(
        "--dest",
        metavar="DIR",
        help="where to work (default: data/RECIPE); the result is DIR/data-bin",
    )
    result.add_argument(
        "--merges", type=int, metavar="N", help="joint BPE merges (default: the recipe's)"
    )
    result.add_argument(
        "--jobs",
        type=int,
        metavar="N",
        default=os.cpu_count(),
        help="processes (default: the cores)",
    )
    result.add_argument(
        "--news-commentary",
        choices=["v9", "v12"],
        help="WMT'14 En-De: v9 is WMT'14's, v12 the authors'",
    )
    result.add_argument(
        "--manifest",
        metavar="FILE",
        default=str(MANIFEST),
        help="other addresses: a mirror of your own",
    )
    result.add_argument(
        "--no-disk-check", action="store_true", help="begin even if the disk seems too small"
    )
    return result


def main(words=None):
    """Return the exit code: 0, or 1 after a message; argparse ends with 2 for flags that are not known."""
    script = os.environ.get("PREPARE_SCRIPT", "prepare.sh")
    args = parser(script).parse_args(words)
    logging.basicConfig(
        format="%(asctime)s %(message)s", datefmt="%H:%M:%S", level=logging.INFO, stream=sys.stdout
    )
    dest = None
    try:
        if args.jobs < 1:
            raise AdminError(f"--jobs {args.jobs}: at least 1 is wanted")
        replaced = {}
        if args.merges is not None:
            replaced["merges"] = str(args.merges)
        if args.news_commentary:
            replaced["news_commentary"] = args.news_commentary
        recipe = read_recipe(args.recipe, TO_PREPARE, replaced)
        if args.from_folder and not os.path.isdir(args.from_folder):
            raise AdminError(f"--from {args.from_folder}: no such folder")
        if shutil.which("fairseq-preprocess") is None:
            raise AdminError(
                "fairseq-preprocess is not in PATH: pip install '.[recipes]' in the repository"
            )
        dest = Path(args.dest or f"data/{recipe.name}")
        dest.mkdir(parents=True, exist_ok=True)
        if not args.no_disk_check:
            check_disk(dest, recipe.data.disk_gb)
        Preparation(
            recipe.data, Stages(dest), read_manifest(args.manifest), args.from_folder, args.jobs
        ).run()
    except (AdminError, OSError) as error:
        if isinstance(error, OSError):
            error = explain_os_error(error, dest)
        print(f"{script}: error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"{script}: stopped; started again, it goes on where it was", file=sys.stderr)
        return 130
    return 0
