"""Train many runs of a recipe, one after the other: see scripts/sweep.sh --help."""

import argparse
import logging
import sys
from itertools import product
from pathlib import Path

from ...errors import AdminError, raise_all
from .. import recipe as recipes
from . import command, runs
from .train import EXTRA, add_common, make_settings, run_main, show, split


def grid(args, recipe):
    """Return the settings of all runs.

    Raises:
        AdminError: if the recipe has no grid without warm-up, and one is asked for.
    """
    seeds = args.seeds or recipe.get("training", "seeds")
    plain = [
        dict(init_type=init_type, layers=layers, seed=seed)
        for init_type, layers, seed in product(args.init_types, args.layers or recipe.depths, seeds)
    ]
    if not args.no_warmup_grid:
        return [make_settings(args, recipe, **cell) for cell in plain]
    rates, beta2s = (recipe.get("training", key) for key in ("no-warmup-lr", "no-warmup-beta2"))
    if not rates or not beta2s:
        raise AdminError(
            f"--no-warmup-grid: {recipe.path} has no no-warmup-lr and no-warmup-beta2 in [training]"
        )
    one_seed = [cell for cell in plain if args.seeds or cell["seed"] == seeds[0]]
    return [
        make_settings(args, recipe, no_warmup=True, lr=lr, beta2=beta2, **cell)
        for cell, lr, beta2 in product(one_seed, rates, beta2s)
    ]


def train_all(recipe, cells, dest, args):
    """Train every run that is not done; return folder -> what came of it, and the failures."""
    ends, failures = {}, []
    for number, settings in enumerate(cells, 1):
        folder = dest / settings.name()
        logging.info("run %d of %d: %s", number, len(cells), folder)
        try:
            ends[folder] = runs.describe(
                runs.finish(recipe, settings, folder, args.node_rank, args.master)
            )
        except (AdminError, OSError) as error:
            ends[folder] = "failed"
            failures.append(str(error))
        logging.info("%s: %s", folder, ends[folder])
    return ends, failures


def main(argv):
    parser = argparse.ArgumentParser(
        prog="sweep.sh",
        usage="bash scripts/sweep.sh RECIPE [flags] [-- flags of fairseq-train]",
        description="Train init types x depths x seeds of a recipe, or the grid without warm-up. What is done is "
        "skipped; a run that diverges or fails does not stop the others. Exit code 1 if one failed.",
        epilog=EXTRA,
    )
    add_common(parser)
    parser.add_argument(
        "--init-types",
        nargs="+",
        default=["default", "pre-ln", "adaptive"],
        metavar="X",
        help=f"of {', '.join(command.INIT_TYPES)} (default: default pre-ln adaptive)",
    )
    parser.add_argument("--layers", nargs="+", metavar="N-M", help="depths (default: the recipe's)")
    parser.add_argument(
        "--seeds", nargs="+", type=int, help="(default: the recipe's; for the grid its first)"
    )
    parser.add_argument(
        "--no-warmup-grid", action="store_true", help="lr x beta2 of the recipe, without warm-up"
    )
    parser.add_argument("--dest", type=Path, help="the folder of the runs (default: runs/NAME)")
    words, extra = split(argv)
    args = parser.parse_args(words)
    args.extra = extra
    recipe = recipes.read_recipe(args.recipe, recipes.TO_TRAIN)
    dest = args.dest or Path("runs") / recipe.name
    cells = grid(args, recipe)
    for settings in cells:
        command.check(recipe, settings)
    if args.dry_run:
        for settings in cells:
            show(recipe, settings, dest / settings.name(), args)
        return 0
    ends, failures = train_all(recipe, cells, dest, args)
    for folder, end in ends.items():
        print(f"{folder}\t{end}")
    raise_all(
        f"{len(failures)} of {len(cells)} runs failed; the same command tries them again:", failures
    )
    return 0


if __name__ == "__main__":
    sys.exit(run_main(main, "sweep.sh"))
