"""``admin-fairseq evaluate RUN...``: runs averaged, translated and scored, into results.tsv."""

import math
import os
from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import Any

from ...errors import AdminError, raise_all
from ...files import locked
from ...logs import read_generation
from .. import results
from ..recipe import TO_TRAIN, Recipe, read_recipe
from ..values import positive_number
from . import outcome, record, runs
from .record import Outcome
from .start import run_command
from .translation import decoding_of, make_mean, raw_reference, subsets_of, translate

Row = dict[str, Any]


def add_parser(commands: Any) -> None:
    """Add ``evaluate`` to the subcommands of ``admin-fairseq``."""
    parser: ArgumentParser = commands.add_parser(
        "evaluate",
        help="average, translate and score runs, into results.tsv",
        description="Average the last checkpoints of runs, translate the test sets, score them in "
        "every way, and write one line per run and test set to results.tsv. A second evaluation "
        "of a run replaces its lines.",
    )
    parser.add_argument(
        "runs",
        nargs="*",
        type=Path,
        metavar="RUN",
        help="one folder or more that train or sweep made, named before --subsets",
    )
    parser.add_argument(
        "--results", type=Path, metavar="FILE", help="(default: results.tsv beside the runs)"
    )
    parser.add_argument(
        "--average", type=int, metavar="N", help="the last N checkpoints (default: the recipe's)"
    )
    parser.add_argument(
        "--by-updates",
        action="store_true",
        help="average those of --save-interval-updates, not epochs (default: where the recipe has "
        "save-every)",
    )
    parser.add_argument(
        "--diverged",
        action="store_true",
        help="translate and score runs too that diverged with finite losses (default: their lines "
        "have no scores); the report's means leave them out",
    )
    parser.add_argument(
        "--loss-only",
        action="store_true",
        help="write lines without scores: nothing is averaged or translated",
    )
    parser.add_argument("--subsets", nargs="+", metavar="SUBSET", help="test sets (default: all)")
    parser.add_argument(
        "--recipe", help="a name or a path (default: the recipe that the run was trained with)"
    )
    parser.add_argument(
        "--data", metavar="DIR", help="the prepared data (default: where the run was trained)"
    )
    parser.set_defaults(run=run)


def run(args: Namespace) -> int:
    """Evaluate the runs; return the exit code.

    Raises:
        AdminError: naming every run that could not be evaluated.
    """
    return run_command("evaluate", _evaluate_all, args)


def _evaluate_all(args: Namespace) -> None:
    if args.average is not None and args.average < 1:
        raise AdminError(f"--average {args.average}: must be at least 1")
    if not args.runs:
        way = "; --subsets takes every word after it: name runs before it" if args.subsets else ""
        raise AdminError(f"evaluate: no RUN is named{way}")
    problems = []
    judged: set[tuple[Path, str]] = set()
    for folder in args.runs:
        try:
            if not folder.is_dir():
                raise AdminError("no such folder")
            with locked(folder / "evaluation.lock"):
                _show(folder, *_evaluate(folder, args, judged))
        except (AdminError, OSError) as error:
            problems.append(f"{folder}: {error}")
    raise_all("not evaluated:", problems)


def _evaluate(
    folder: Path, args: Namespace, judged: set[tuple[Path, str]]
) -> tuple[Outcome, list[Row]]:
    """Judge, average, translate and score a run; return its outcome and rows of results.tsv.

    A run that diverged has no scores, unless --diverged asks for those of one that ran to its end.

    Args:
        folder: the run's folder.
        args: the flags.
        judged: folders of runs and recipes that were judged already; this run's is added.
    """
    run = record.load_run(folder)
    if not run:
        raise AdminError(f"{folder}: not a run of admin-fairseq train: it has no readable run.json")
    ended = record.load_outcome(folder)
    if not ended:
        raise AdminError(f"{folder}: not trained to its end; go on with admin-fairseq train")
    judged_together = (folder.resolve().parent, run["recipe"])
    if outcome.can_change(ended) and judged_together not in judged:
        ended = outcome.judge(folder)
        judged.add(judged_together)
    recipe = read_recipe(args.recipe or run["recipe_file"], TO_TRAIN)
    data = str(args.data or run["settings"]["data"])
    runs.check_corpus(folder, recipe, data)
    run["settings"]["data"] = data
    table = args.results or folder.parent / "results.tsv"
    shared = _facts(folder, run, ended, table)
    is_scored = ended["state"] == "done" or (args.diverged and outcome.can_change(ended))
    is_scored = is_scored and not args.loss_only
    rows = []
    for subset in args.subsets or subsets_of(data, recipe.source, recipe.target):
        row = {**shared, "subset": subset}
        if is_scored:
            row.update(_translate_and_score(folder, run, subset, recipe, args))
        rows.append(row)
    results.append(table, rows)
    return ended, rows


def _facts(folder: Path, run: dict[str, Any], ended: Outcome, table: Path) -> Row:
    """Return the columns of results.tsv that all subsets of a run share."""
    settings, log = run["settings"], record.load_log(folder)
    row = {
        "run": os.path.relpath(folder.resolve(), table.resolve().parent),
        "data": run["recipe"],
        "init_type": settings["init_type"],
        "depth": settings["layers"],
        "seed": settings["seed"],
        "updates": log.last_update,
        # fairseq takes several rates too: such a run has no one number
        "lr": positive_number(record.flag_of(run["command"], "--lr") or ""),
        "diverged": None,
        "valid_nll": None,
        "wall_clock": record.wall_clock(folder),
    }
    for column in ("variant", "tokens_per_update", "hardware", "commit", "versions"):
        row[column] = run[column]
    if ended["state"] == "diverged":
        row["diverged"] = f"at update {ended['update']}: {ended['reason']}"
    for _, bits in log.curve[-1:]:
        if math.isfinite(bits):
            row["valid_nll"] = round(bits, 4)
    # a report of results.tsv alone, without the runs, has their curves
    row["curve"] = [(update, round(bits, 4)) for update, bits in log.curve if math.isfinite(bits)]
    return row


def _translate_and_score(
    folder: Path, run: dict[str, Any], subset: str, recipe: Recipe, args: Namespace
) -> Row:
    """Return the columns of one test set: what was averaged, how it was decoded, the scores."""
    depth = run["settings"]["layers"]
    count = args.average or recipe.get("evaluation", "average", depth)
    by_updates = args.by_updates or bool(recipe.get("training", "save-every", depth))
    checkpoint, averaged = make_mean(folder, count, by_updates)
    row = {"averaged": averaged, "decoding": str(decoding_of(recipe, depth))}
    output = translate(run, folder, checkpoint, subset, recipe)
    row.update(_score(output, run["settings"]["data"], subset, recipe, depth))
    return row


def _score(output: Path, data: str, subset: str, recipe: Recipe, depth: str) -> Row:
    """Return column -> value of a translation's scores and signatures.

    Raises:
        AdminError: if the raw reference is of another length than the translation.
    """
    from ..scores import scores

    tokenised, hypotheses = read_generation(output)
    references = raw_reference(data, subset, recipe.target)
    if len(hypotheses) != len(references):
        raise AdminError(
            f"{output}: {len(hypotheses)} hypotheses, but {len(references)} lines in "
            f"{data}/raw/{subset}.*"
        )
    compounds = recipe.get("evaluation", "compound-splitting", depth)
    row: Row = {}
    for found in scores(
        hypotheses, tokenised, references, recipe.target, recipe.lowercase, compounds
    ):
        row[found.column] = round(found.value, 4)
        if found.column != "bleu_split":  # of the same signature as bleu
            row[found.column + "_signature"] = found.signature
    return row


def _show(folder: Path, ended: Outcome, rows: list[Row]) -> None:
    """Print a run's numbers, each with its name and signature."""
    print(f"{folder}: {outcome.describe(ended)}")
    for row in rows:
        for column, name in results.MEASURES.items():
            if row.get(column) is not None:
                signature = row.get(column.replace("_split", "") + "_signature")
                print(f"  {row['subset']:<6} {name:<32}{row[column]:7.2f}  {signature}")
