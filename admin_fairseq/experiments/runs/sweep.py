"""``admin-fairseq sweep RECIPE``: many runs of a recipe."""

import functools
import logging
from argparse import ArgumentParser, Namespace
from itertools import product
from pathlib import Path
from typing import Any, Optional

from ...errors import AdminError, raise_all
from ..recipe import TO_TRAIN, Recipe, read_recipe
from . import machine, record, runs
from .checks import check, init_type_name, init_type_words
from .flags import EXTRA, add_common, check_numbers, make_settings
from .outcome import describe
from .settings import Settings
from .side_by_side import Pool, run_all
from .start import run_command
from .train import say_idle, show

logger = logging.getLogger(__name__)


def add_parser(commands: Any) -> None:
    """Add ``sweep`` to the subcommands of ``admin-fairseq``."""
    parser: ArgumentParser = commands.add_parser(
        "sweep",
        help="train many runs of a recipe",
        usage="admin-fairseq sweep RECIPE [flags] [-- flags of fairseq-train]",
        description="Train init types x depths x rates x seeds of a recipe, or the grid without "
        "warm-up. "
        "What is done is skipped; a run that diverges or fails does not stop the others. On "
        "SIGTERM and SIGUSR1 all save and end. Exit code 1 if one failed, 130 if it was stopped.",
        epilog=EXTRA,
    )
    add_common(parser, many_runs=True)
    parser.add_argument(
        "--init-types",
        nargs="+",
        default=["default", "pre-ln", "adaptive"],
        metavar="X",
        help=f"of {init_type_words()} (default: default pre-ln adaptive)",
    )
    parser.add_argument("--layers", nargs="+", metavar="N-M", help="depths (default: the recipe's)")
    parser.add_argument(
        "--seeds",
        nargs="+",
        type=int,
        metavar="N",
        help="(default: the recipe's; for the grid its first)",
    )
    parser.add_argument(
        "--no-warmup-grid", action="store_true", help="lr x beta2 of the recipe, without warm-up"
    )
    parser.add_argument(
        "--jobs",
        type=int,
        metavar="N",
        help="trainings at a time, each with one thread unless OMP_NUM_THREADS is set (default: as "
        "many as the GPUs allow, each with as many as the recipe says; with --cpu 1)",
    )
    parser.add_argument(
        "--dest", type=Path, metavar="DIR", help="the folder of the runs (default: runs/NAME)"
    )
    parser.set_defaults(run=run)


def run(args: Namespace) -> int:
    """Train the runs; return the exit code.

    Raises:
        AdminError: for mistakes in flags and files, and if runs failed: naming every one.
    """
    return run_command("sweep", _sweep, args)


def _sweep(args: Namespace) -> None:
    check_numbers(args)
    recipe = read_recipe(args.recipe, TO_TRAIN)
    dest = args.dest or Path("runs") / recipe.name
    cells = grid(args, recipe)
    for settings in cells:
        check(recipe, settings)
    if args.dry_run:
        for settings in cells:
            show(recipe, settings, dest / settings.name(), args)
        return
    ends, failures = train_all(recipe, cells, dest, args)
    for folder, end in ends.items():
        # what it was called when it ended may be out of date: later runs are judged beside it
        judged = record.load_outcome(folder)
        print(f"{folder}\t{describe(judged) if judged else end}")
    raise_all(
        f"{len(failures)} of {len(cells)} runs failed; the same command tries them again:", failures
    )


def grid(args: Namespace, recipe: Recipe) -> list[Settings]:
    """Return the settings of all runs.

    Raises:
        AdminError: if the recipe has no grid without warm-up, and one is asked for; or for words
            that are no init types, naming every one.
    """
    methods = _methods(args.init_types)
    seeds = args.seeds or recipe.get("training", "seeds")
    if args.no_warmup_grid and not args.seeds:
        seeds = seeds[:1]
    cells = []
    # a grid brings rates of its own
    rates = [""] if args.no_warmup_grid else _once(args.lr) or [""]
    # a seed at a time: a stopped sweep has seen every method and rate once before it repeats any
    # named twice is trained once: two trainings in one folder would be in each other's way
    depths = dict.fromkeys(args.layers or recipe.depths)
    for seed, layers, method, rate in product(dict.fromkeys(seeds), depths, methods, rates):
        cells.append(make_settings(args, recipe, method, layers, seed, rate))
    return _without_warmup(cells, args.lr, recipe) if args.no_warmup_grid else cells


def _once(rates: list[str]) -> list[str]:
    """Return rates without those that are another one in other words, such as 1e-3 and 0.001."""
    found: dict[float, str] = {}
    for rate in rates:
        found.setdefault(float(rate), rate)
    return list(found.values())


def _methods(words: list[str]) -> list[str]:
    names: list[str] = []
    problems = []
    for word in words:
        try:
            name = init_type_name(word)
        except AdminError as error:
            problems.append(error)
            continue
        if name not in names:  # two words for one method
            names.append(name)
    raise_all("these init types cannot be trained:", problems)
    return names


def _without_warmup(cells: list[Settings], lrs: list[str], recipe: Recipe) -> list[Settings]:
    rates = _once(lrs or recipe.get("training", "no-warmup-lr") or [])
    beta2s = recipe.get("training", "no-warmup-beta2")
    if not rates or not beta2s:
        raise AdminError(
            f"--no-warmup-grid: {recipe.path} has no no-warmup-lr and no-warmup-beta2 in [training]"
        )
    found = []
    for settings, lr, beta2 in product(cells, rates, beta2s):
        found.append(
            Settings(**{**settings.as_dict(), "no_warmup": True, "lr": lr, "beta2": beta2})
        )
    return found


def train_all(
    recipe: Recipe, cells: list[Settings], dest: Path, args: Namespace
) -> tuple[dict[Path, str], list[str]]:
    """Train every run that is not done; return folder -> what came of it, and the failures."""
    ends: dict[Path, str] = {}
    failures: list[str] = []
    works = []
    for number, settings in enumerate(cells, 1):
        title = f"run {number} of {len(cells)}"
        works.append(functools.partial(_train_one, recipe, settings, dest, args, title))

    def ended(number: int, result: Any) -> None:
        folder = dest / cells[number].name()
        end, failure = result or ("failed", f"{folder}: its process was killed")
        ends[folder] = end
        if failure:
            failures.append(failure)
        logger.info("%s: %s", folder, end)

    pool = share_gpus(cells)
    jobs = args.jobs or (pool.most_at_a_time() if pool else 1)
    if args.nodes > 1:
        jobs = 1  # all machines must be at the same run
    say_idle(max(cells, key=lambda settings: settings.processes), jobs)
    if jobs > 1:
        run_all(works, jobs, ended, pool)
    else:
        for number, work in enumerate(works):
            ended(number, work())
    return ends, failures


def share_gpus(cells: list[Settings]) -> Optional[Pool]:
    """Return how the GPUs of this machine are shared among runs; None on the CPU."""
    if any(settings.cpu for settings in cells):
        return None
    takes = [settings.per_node for settings in cells]
    return Pool([gpu.word for gpu in machine.visible_gpus()], takes)


def _train_one(
    recipe: Recipe, settings: Settings, dest: Path, args: Namespace, title: str
) -> tuple[str, str]:
    """Train a run; return what came of it, and why it failed, empty if it did not."""
    folder = dest / settings.name()
    logger.info("%s: %s", title, folder)
    try:
        return describe(runs.finish(recipe, settings, folder, args.node_rank, args.master)), ""
    except (AdminError, OSError) as error:
        return "failed", str(error)
