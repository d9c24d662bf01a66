"""The flags that ``train`` and ``sweep`` share, and the settings that they ask for."""

import os
from argparse import ArgumentParser, BooleanOptionalAction, Namespace
from pathlib import Path

from ...errors import raise_all
from ..recipe import Recipe, recipe_names
from ..values import DEPTH, amount, positive_number
from . import devices, machine
from .settings import Settings

EXTRA = (
    "Flags after -- go to fairseq-train as they are, and become part of the run's name and of "
    "results.tsv's variant."
)


def add_common(command: ArgumentParser, many_runs: bool = False) -> None:
    """Add the flags that both subcommands share; with ``many_runs``, of ``sweep``."""
    command.add_argument(
        "recipe",
        metavar="RECIPE",
        help=f"{', '.join(recipe_names())}, or the path of a recipe file of your own",
    )
    command.add_argument("--data", metavar="DIR", help="the prepared data (default: data/NAME)")
    if many_runs:
        command.add_argument(
            "--lr", nargs="+", default=[], help="other peak learning rates than the recipe's"
        )
    else:
        command.add_argument("--lr", default="", help="another peak rate than the recipe's")
    command.add_argument("--beta2", default="", help="another beta2 than the recipe's")
    command.add_argument(
        "--profile",
        default="",
        metavar="PATH",
        help="take Admin's omegas from this profile, measured or edited elsewhere, and measure "
        "none; {seed} in it stands for the run's seed",
    )
    command.add_argument(
        "--updates",
        type=int,
        default=0,
        metavar="N",
        help="train N updates instead of the recipe's updates or epochs",
    )
    command.add_argument(
        "--max-tokens",
        type=int,
        default=0,
        metavar="N",
        help="that fit a device (default: the recipe's)",
    )
    command.add_argument(
        "--tokens-per-update",
        type=int,
        default=0,
        metavar="N",
        help="another number than the recipe's",
    )
    command.add_argument(
        "--fast",
        action=BooleanOptionalAction,
        help="the plugin's fast criterion, Adam and layers, or fairseq's (default: the recipe's)",
    )
    command.add_argument("--dry-run", action="store_true", help="print the commands, run nothing")
    _add_machines(command)


def _add_machines(command: ArgumentParser) -> None:
    command.add_argument(
        "--cpu", action="store_true", help="train on the CPU (default: where there is no GPU)"
    )
    command.add_argument(
        "--processes",
        type=int,
        metavar="N",
        help="on this machine, for one training (default: as many GPUs as the recipe's "
        "tokens-per-update says, of those that nvidia-smi lists and CUDA_VISIBLE_DEVICES leaves)",
    )
    command.add_argument(
        "--nodes",
        type=int,
        metavar="N",
        default=os.environ.get("SLURM_NNODES", "1"),
        help="machines that train together (default: $SLURM_NNODES, or 1)",
    )
    command.add_argument(
        "--node-rank",
        type=int,
        metavar="N",
        default=os.environ.get("SLURM_NODEID", "0"),
        help="which of them this is, 0 the first (default: $SLURM_NODEID, or 0)",
    )
    command.add_argument(
        "--master", default="", metavar="HOST:PORT", help="of the first of several machines"
    )


def check_numbers(args: Namespace) -> None:
    """Refuse flags whose values cannot work.

    Raises:
        AdminError: naming every one.
    """
    numbers = {
        "--processes": 1 if args.processes is None else args.processes,
        "--nodes": args.nodes,
        "--max-tokens": args.max_tokens or 1,
        "--tokens-per-update": args.tokens_per_update or 1,
        "--updates": args.updates or 1,
        "--jobs": 1 if getattr(args, "jobs", None) is None else args.jobs,
    }
    problems = []
    for flag, number in numbers.items():
        if number < 1:
            problems.append(f"{flag} {number}: must be at least 1")
    gpus = 0 if args.cpu else len(machine.visible_gpus())
    if gpus and (args.processes or 1) > gpus:
        problems.append(f"--processes {args.processes}: there are {gpus} GPUs (or add --cpu)")
    rates = args.lr if isinstance(args.lr, list) else [args.lr]
    for text in filter(None, rates):
        if positive_number(text) is None:
            problems.append(f"--lr {text}: must be a number above 0")
    if args.beta2 and not _is_beta(args.beta2):
        problems.append(f"--beta2 {args.beta2}: must be a number from 0 to below 1")
    flag, seeds = "--seed", [getattr(args, "seed", None)]
    if hasattr(args, "seeds"):
        flag, seeds = "--seeds", args.seeds or []
    for seed in seeds:
        # numpy takes no others
        if seed is not None and not 0 <= seed < 2**32:
            problems.append(f"{flag} {seed}: must be from 0 to {2**32 - 1}")
    layers = args.layers if isinstance(args.layers, list) else [args.layers or "1-1"]
    for depth in layers:
        if not DEPTH.fullmatch(depth):
            problems.append(f"--layers {depth}: must be ENCODER-DECODER, such as 18-18")
    raise_all("these flags cannot work:", problems)


def _is_beta(text: str) -> bool:
    try:
        return amount(text) < 1
    except ValueError:
        return False


def make_settings(
    args: Namespace, recipe: Recipe, init_type: str, layers: str, seed: int, lr: str
) -> Settings:
    """Return the settings that the flags ask for, of one run."""
    no_gpu, available = machine.defaults()
    cpu = args.cpu or no_gpu
    of_recipe = 1 if cpu else devices.of_one_training(recipe, layers, args.nodes, available)
    processes = args.processes or of_recipe
    return Settings(
        init_type=init_type,
        layers=layers,
        seed=seed,
        data=str(Path(args.data or Path("data") / recipe.name).resolve()),
        cpu=cpu,
        processes=processes * args.nodes,
        nodes=args.nodes,
        max_tokens=args.max_tokens,
        tokens_per_update=args.tokens_per_update,
        updates=args.updates,
        fast=args.fast,
        lr=lr,
        beta2=args.beta2,
        profile=args.profile and str(Path(args.profile).resolve()),
        extra=args.extra,
    )


def split_extra(words: list[str]) -> tuple[list[str], list[str]]:
    """Return (our words, fairseq-train's): those before and after the first ``--``."""
    at = words.index("--") if "--" in words else len(words)
    return words[:at], words[at + 1 :]
