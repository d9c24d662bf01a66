"""``admin-fairseq train RECIPE --init-type X``: one run of a recipe."""

import logging
import shlex
from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import Any

from ..recipe import TO_TRAIN, Recipe, read_recipe
from . import command, devices, machine, runs
from .checks import check, init_type_name, init_type_words
from .flags import EXTRA, add_common, check_numbers, make_settings
from .outcome import describe
from .settings import Settings
from .start import run_command

logger = logging.getLogger(__name__)
# with the numbers: README.md, "Which init type?"
WHICH = (
    "Deep models: analytic or adaptive-flat; to reproduce the papers: adaptive (its best rate was "
    "a third of analytic's); up to about six layers: default"
)


def add_parser(commands: Any) -> None:
    """Add ``train`` to the subcommands of ``admin-fairseq``."""
    parser: ArgumentParser = commands.add_parser(
        "train",
        help="train one run of a recipe",
        usage="admin-fairseq train RECIPE --init-type X [flags] [-- flags of fairseq-train]",
        description="Train one run of a recipe; stopped in between, the same command goes on. On "
        "SIGTERM and SIGUSR1 it saves and ends. Exit code 0: trained or diverged (see outcome.json "
        "in its folder), 1: failed, 130: stopped.",
        epilog=EXTRA,
    )
    add_common(parser)
    parser.add_argument(
        "--init-type", required=True, metavar="X", help=f"{init_type_words()}. {WHICH}"
    )
    parser.add_argument(
        "--layers", metavar="N-M", help="ENCODER-DECODER (default: the recipe's first depth)"
    )
    parser.add_argument("--seed", type=int, help="(default: the recipe's first seed)")
    parser.add_argument(
        "--no-warmup", action="store_true", help="linear schedule, one update of warm-up"
    )
    parser.add_argument(
        "--dest",
        type=Path,
        metavar="DIR",
        help="the run's folder (default: runs/NAME/INIT-DEPTH-seedN...)",
    )
    parser.set_defaults(run=run)


def run(args: Namespace) -> int:
    """Train the run; return the exit code.

    Raises:
        AdminError: for mistakes in flags and files, and if fairseq-train fails.
    """
    return run_command("train", _train, args)


def _train(args: Namespace) -> None:
    check_numbers(args)
    recipe = read_recipe(args.recipe, TO_TRAIN)
    seed = recipe.get("training", "seeds")[0] if args.seed is None else args.seed
    layers = args.layers or recipe.depths[0]
    settings = make_settings(args, recipe, args.init_type, layers, seed, args.lr)
    settings.no_warmup = args.no_warmup
    check(recipe, settings)
    settings.init_type = init_type_name(args.init_type)
    folder = args.dest or Path("runs") / recipe.name / settings.name()
    if args.dry_run:
        show(recipe, settings, folder, args)
        return
    say_idle(settings)
    outcome = runs.finish(recipe, settings, folder, args.node_rank, args.master)
    logger.info("%s: %s", folder, describe(outcome))


def show(recipe: Recipe, settings: Settings, folder: Path, args: Namespace) -> None:
    """Print the commands of a run."""
    print(f"# {command.batch_of(recipe, settings).describe()}")
    profile = command.profile_of(recipe, settings, folder)
    if profile is not None and not settings.profile:
        words = command.fairseq_train(recipe, settings, profile.parent, profile, stage="profile")
        print(_on_gpus(1, settings) + shlex.join(words))
    words = command.fairseq_train(recipe, settings, folder, profile)
    words = command.distributed(words, settings, args.node_rank, args.master)
    print(_on_gpus(settings.per_node, settings) + shlex.join(words))


def _on_gpus(count: int, settings: Settings) -> str:
    """Return the environment of a command, as a shell takes it before the command."""
    if settings.cpu:
        return ""
    words = devices.environment(settings.cpu, count).items()
    return "".join(f"{name}={shlex.quote(value)} " for name, value in words)


def say_idle(settings: Settings, at_a_time: int = 1) -> None:
    """Log it if a machine has more GPUs than its trainings take."""
    used, available = settings.per_node * at_a_time, len(machine.visible_gpus())
    if not settings.cpu and used < available:
        logger.info(
            "%d of %d GPUs are used: one training takes as many as the recipe's tokens-per-update "
            "says; --processes gives it more",
            used,
            available,
        )
