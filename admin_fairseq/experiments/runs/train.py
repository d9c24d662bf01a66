"""Train one run of a recipe: see scripts/train.sh --help."""

import argparse
import logging
import os
import shlex
import sys
from pathlib import Path

from ...errors import AdminError, raise_all
from .. import recipe as recipes
from ..values import DEPTH
from . import command, machine, runs

EXTRA = "flags after -- go to fairseq-train as they are, and become part of the run's name and of results.tsv's variant"


def add_common(parser):
    """Add the flags that train.sh and sweep.sh share."""
    parser.add_argument(
        "recipe", help="a recipe file, such as nmt-experiments/recipes/iwslt14_de-en.ini"
    )
    parser.add_argument("--data", help="the prepared data (default: data/NAME)")
    parser.add_argument("--lr", default="", help="another peak learning rate than the recipe's")
    parser.add_argument("--beta2", default="", help="another beta2 than the recipe's")
    parser.add_argument(
        "--cpu", action="store_true", help="train on the CPU (default: where there is no GPU)"
    )
    parser.add_argument("--processes", type=int, help="on this machine (default: its GPUs, or 1)")
    parser.add_argument(
        "--nodes",
        type=int,
        default=int(os.environ.get("SLURM_NNODES", 1)),
        help="machines that train together (default: $SLURM_NNODES, or 1)",
    )
    parser.add_argument(
        "--node-rank",
        type=int,
        default=int(os.environ.get("SLURM_NODEID", 0)),
        help="which of them this is, 0 the first (default: $SLURM_NODEID, or 0)",
    )
    parser.add_argument("--master", default="", help="HOST:PORT of the first of several machines")
    parser.add_argument(
        "--max-tokens", type=int, default=0, help="that fit a device (default: the recipe's)"
    )
    parser.add_argument(
        "--tokens-per-update", type=int, default=0, help="another number than the recipe's"
    )
    parser.add_argument("--dry-run", action="store_true", help="print the commands, run nothing")


def make_settings(args, recipe, **changed):
    """Return the :class:`command.Settings` that the flags ask for."""
    no_gpu, devices = machine.defaults()
    cpu = args.cpu or no_gpu
    processes = args.processes or (1 if cpu else devices)
    numbers = {
        "--processes": processes,
        "--nodes": args.nodes,
        "--max-tokens": args.max_tokens or 1,
        "--tokens-per-update": args.tokens_per_update or 1,
    }
    problems = [
        f"{flag} {number}: wanted is a positive number"
        for flag, number in numbers.items()
        if number < 1
    ]
    for flag, text in (("--lr", args.lr), ("--beta2", args.beta2)):
        try:
            float(text or 0)
        except ValueError:
            problems.append(f"{flag} {text}: wanted is a number")
    layers = changed.get("layers") or recipe.depths[0]
    if not DEPTH.fullmatch(layers):
        problems.append(f"--layers {layers}: wanted is ENCODER-DECODER, such as 18-18")
    raise_all("these flags cannot work:", problems)
    data = str(Path(args.data or Path("data") / recipe.name).resolve())
    values = dict(
        data=data,
        cpu=cpu,
        processes=processes * args.nodes,
        nodes=args.nodes,
        max_tokens=args.max_tokens,
        tokens_per_update=args.tokens_per_update,
        lr=args.lr,
        beta2=args.beta2,
        extra=args.extra,
    )
    return command.Settings(**{**values, **changed, "layers": layers})


def show(recipe, settings, folder, args):
    """Print what would be run."""
    print(f"# {command.batch_of(recipe, settings).describe()}")
    profile = None
    if settings.init_type == "adaptive":
        profile = folder.parent / "profiles" / command.profile_name(recipe, settings)
        print(
            shlex.join(
                command.fairseq_train(recipe, settings, profile.parent, profile, stage="profile")
            )
        )
    words = command.fairseq_train(recipe, settings, folder, profile)
    print(shlex.join(command.distributed(words, settings, args.node_rank, args.master)))


def run_main(main, name):
    """Run a script's main; a mistake is one message and exit code 1."""
    logging.basicConfig(
        format=f"[%(asctime)s] {name}: %(message)s",
        datefmt="%H:%M:%S",
        level=logging.INFO,
        stream=sys.stderr,
        force=True,
    )
    machine.stop_on_term()
    try:
        return main(sys.argv[1:])
    except (AdminError, OSError) as error:
        print(f"{name}: error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"{name}: stopped; the same command goes on", file=sys.stderr)
        return 130


def split(argv):
    """Return (our words, fairseq-train's): what stands before and after ``--``."""
    at = argv.index("--") if "--" in argv else len(argv)
    return argv[:at], argv[at + 1 :]


def main(argv):
    parser = argparse.ArgumentParser(
        prog="train.sh",
        usage="bash scripts/train.sh RECIPE --init-type X [flags] [-- flags of fairseq-train]",
        description="Train one run of a recipe; stopped in between, the same command goes on. Exit code 0: trained or "
        "diverged (see outcome.json in its folder), 1: failed.",
        epilog=EXTRA,
    )
    add_common(parser)
    parser.add_argument("--init-type", required=True, help=", ".join(command.INIT_TYPES))
    parser.add_argument("--layers", help="ENCODER-DECODER (default: the recipe's first depth)")
    parser.add_argument("--seed", type=int, help="(default: the recipe's first seed)")
    parser.add_argument(
        "--no-warmup", action="store_true", help="linear schedule, one update of warm-up"
    )
    parser.add_argument(
        "--dest", type=Path, help="the run's folder (default: runs/NAME/INIT-DEPTH-seedN...)"
    )
    words, extra = split(argv)
    args = parser.parse_args(words)
    args.extra = extra
    recipe = recipes.read_recipe(args.recipe, recipes.TO_TRAIN)
    seed = recipe.get("training", "seeds")[0] if args.seed is None else args.seed
    settings = make_settings(
        args,
        recipe,
        init_type=args.init_type,
        layers=args.layers,
        seed=seed,
        no_warmup=args.no_warmup,
    )
    folder = args.dest or Path("runs") / recipe.name / settings.name()
    command.check(recipe, settings)
    if args.dry_run:
        show(recipe, settings, folder, args)
        return 0
    result = runs.finish(recipe, settings, folder, args.node_rank, args.master)
    logging.info("%s: %s", folder, runs.describe(result))
    return 0


if __name__ == "__main__":
    sys.exit(run_main(main, "train.sh"))
