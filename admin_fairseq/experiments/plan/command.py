"""``admin-fairseq plan RECIPE``: what a training will take."""

from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import Any, Optional

from ...errors import AdminError, raise_all
from ...init_types import METHODS
from ..recipe import TO_TRAIN, Recipe, read_recipe, recipe_names
from ..runs import command
from ..runs.checks import init_type_name, init_type_words
from ..runs.settings import Settings
from ..values import DEPTH
from .corpus import find_corpus
from .gpus import KNOWN, Gpu, read_gpus
from .report import USUAL_UTILISATION, Plan, lines
from .shape import Shape


def add_parser(commands: Any) -> None:
    """Add ``plan`` to the subcommands of ``admin-fairseq``."""
    parser: ArgumentParser = commands.add_parser(
        "plan",
        help="say what a training of a recipe will take",
        description="Say how many updates, operations, gigabytes and hours a training of a recipe "
        "takes, with its sources. Nothing is run, and no GPU is needed.",
    )
    parser.add_argument(
        "recipe",
        metavar="RECIPE",
        help=f"{', '.join(recipe_names())}, or the path of a recipe file of your own",
    )
    parser.add_argument("--layers", metavar="N-M", help="(default: the recipe's first depth)")
    parser.add_argument(
        "--gpus",
        metavar="NxNAME",
        help=f"of one training, such as 8xA100 or 4xV100-16GB: {', '.join(g.name for g in KNOWN)} "
        "(default: as many A100 as the recipe says)",
    )
    parser.add_argument(
        "--init-type", default="adaptive", metavar="X", help=f"{init_type_words()} (default: admin)"
    )
    parser.add_argument("--data", metavar="DIR", help="the prepared data (default: data/NAME)")
    parser.add_argument(
        "--max-tokens", type=int, default=0, metavar="N", help="of one GPU (default: the recipe's)"
    )
    parser.add_argument(
        "--utilisation",
        type=float,
        default=USUAL_UTILISATION,
        metavar="X",
        help="the share of the GPUs' peak that is reached, 0 to 1 (default: %(default)s, about "
        "what the published times come to)",
    )
    parser.set_defaults(run=run)


def run(args: Namespace) -> None:
    """Print the plan.

    Raises:
        AdminError: for mistakes in flags and files; one message names them all.
    """
    recipe = read_recipe(args.recipe, TO_TRAIN)
    for line in lines(make_plan(args, recipe)):
        print(line)


def make_plan(args: Namespace, recipe: Recipe) -> Plan:
    """Return the plan that the flags ask for.

    Raises:
        AdminError: naming every flag that cannot work.
    """
    layers = args.layers or recipe.depths[0]
    count, gpu, init_type = _check(args, recipe, layers)
    data = Path(args.data or Path("data") / recipe.name)
    settings = Settings(
        init_type, layers, 1, str(data), processes=count, max_tokens=args.max_tokens
    )
    corpus = find_corpus(recipe, data)
    return Plan(
        recipe=recipe,
        layers=layers,
        shape=_shape(recipe, layers, corpus.types, init_type),
        corpus=corpus,
        batch=command.batch_of(recipe, settings),
        count=count,
        gpu=gpu,
        utilisation=args.utilisation,
    )


def _check(args: Namespace, recipe: Recipe, layers: str) -> tuple[int, Gpu, str]:
    """Return the GPUs and the init type that the flags name."""
    problems: list[object] = []
    if not DEPTH.fullmatch(layers):
        problems.append(f"--layers {layers}: must be ENCODER-DECODER, such as 18-18")
    if not 0 < args.utilisation <= 1:
        problems.append(f"--utilisation {args.utilisation:g}: must be more than 0, at the most 1")
    if args.max_tokens < 0:
        problems.append(f"--max-tokens {args.max_tokens}: must be at least 1")
    if args.data and not Path(args.data).is_dir():
        problems.append(f"--data {args.data}: no such folder")
    count, gpu, init_type = 1, KNOWN[0], "adaptive"
    try:
        factors = recipe.get("training", "tokens-per-update", layers)
        usual = f"{factors[0] if len(factors) > 1 else 1}xA100"
        count, gpu = read_gpus(args.gpus or usual)
    except AdminError as error:
        problems.append(error)
    try:
        init_type = init_type_name(args.init_type)
    except AdminError as error:
        problems.append(error)
    raise_all("nothing can be planned:", problems)
    return count, gpu, init_type


def _shape(recipe: Recipe, layers: str, types: Optional[int], init_type: str) -> Optional[Shape]:
    if types is None:
        return None
    encoder, decoder = (int(number) for number in layers.split("-"))
    dim, ffn, heads = recipe.get("model", "dims", layers)
    with_omegas = {method.name for method in METHODS if method.needs_profile} | {"analytic"}
    return Shape(encoder, decoder, dim, ffn, heads, types, init_type in with_omegas)
