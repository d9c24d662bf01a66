"""Average, translate and score runs: see scripts/evaluate.sh --help."""

import argparse
import logging
import os
import re
import shlex
import sys
from pathlib import Path

from admin_fairseq import average, files, results

from ...errors import AdminError, raise_all
from ...logs import read_generation
from .. import recipe as recipes
from ..scores import scores
from . import machine, outcome, runs
from .command import USER_DIR
from .train import run_main

logger = logging.getLogger(__name__)


def subsets(data, source, target):
    """Return the test subsets of a data-bin: test, test1, ..."""
    pattern = re.compile(rf"(test\d*)\.{source}-{target}\.{target}\.idx")
    names = {
        match[1]
        for path in (Path(data) / "data-bin").iterdir()
        if (match := pattern.fullmatch(path.name))
    }
    if not names:
        raise AdminError(f"{data}/data-bin: no test set ({source}-{target}) in it")
    return sorted(names, key=lambda name: int(name[4:] or 0))


def raw_reference(data, subset, lang):
    """Return the lines of the raw reference; lines end at ``\\n`` alone.

    Raises:
        AdminError: if it is not there.
    """
    path = Path(data) / "raw" / f"{subset}.{lang}"
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise AdminError(f"{path}: the raw reference of {subset} cannot be read: {error}") from None
    return text.split("\n")[:-1] if text.endswith("\n") else text.split("\n")


def run_logged(words, target, part):
    """Run a command, its output into ``part``, and give that the name ``target`` when it has ended well."""
    logger.info("writing %s", target)
    with open(part, "w") as file:
        code = machine.run(words, file)
    if code:
        raise AdminError(f"{words[0]} failed (exit code {code}): see {part}")
    os.replace(part, target)


def make_mean(folder, count, by_updates):
    """Write the mean of a run's last ``count`` checkpoints, unless it is there; return it, and what it is of."""
    paths = average.find_checkpoints(str(folder), count, by_updates)
    kind = "updates" if by_updates else "epochs"
    mean = folder / f"mean-last{count}-{kind}.pt"
    if not mean.exists() or mean.stat().st_mtime < max(os.path.getmtime(path) for path in paths):
        average.average_to_file(paths, str(mean))
    return mean, f"last {count} {kind}"


def translate(run, folder, mean, subset, recipe):
    """Translate a test subset with the recipe's beam and length penalty, unless it is done; return the output."""
    settings = run["settings"]
    get = lambda key: recipe.get("evaluation", key, settings["layers"])  # noqa: E731
    output, made_by = folder / f"{subset}.out", folder / f"{subset}.command"
    words = [
        "fairseq-generate",
        Path(settings["data"]) / "data-bin",
        "-s",
        recipe.source,
        "-t",
        recipe.target,
    ]
    words += ["--user-dir", USER_DIR, "--path", mean, "--gen-subset", subset, "--beam", get("beam")]
    words += ["--lenpen", get("lenpen"), "--batch-size", 128, "--remove-bpe", "--no-progress-bar"]
    words += ["--cpu", "--num-workers", 0] if settings["cpu"] else ["--fp16"]
    line = shlex.join(str(word) for word in words) + "\n"
    fresh = output.exists() and output.stat().st_mtime >= mean.stat().st_mtime
    if not (fresh and made_by.exists() and made_by.read_text() == line):
        made_by.unlink(missing_ok=True)
        run_logged(words, output, folder / f"{subset}.part")
        with files.replacing(made_by) as file:
            file.write(line.encode())
    return output


def score(output, data, subset, recipe, depth):
    """Return column -> value of a translation's scores and signatures.

    Raises:
        AdminError: if the raw reference is of another length than the translation.
    """
    tokenised, hypotheses = read_generation(output)
    references = raw_reference(data, subset, recipe.target)
    if len(hypotheses) != len(references):
        raise AdminError(
            f"{output}: {len(hypotheses)} hypotheses, but {len(references)} lines in {data}/raw/{subset}.*"
        )
    compounds = recipe.get("evaluation", "compound-splitting", depth)
    row = {}
    for found in scores(
        hypotheses, tokenised, references, recipe.target, recipe.lowercase, compounds
    ):
        row[found.column] = round(found.value, 4)
        if found.column != "bleu_split":  # of the same signature as bleu
            row[found.column + "_signature"] = found.signature
    return row


def facts(folder, run, result, table):
    """Return the columns of results.tsv that all subsets of a run share."""
    settings, curve = run["settings"], outcome.curve(folder)
    finite = curve and abs(curve[-1][1]) < float("inf")
    failed = result["state"] == "diverged"
    return {
        "run": os.path.relpath(folder.resolve(), table.resolve().parent),
        "data": run["recipe"],
        "init_type": settings["init_type"],
        "depth": settings["layers"],
        "seed": settings["seed"],
        "variant": run["variant"],
        "updates": outcome.last_update(folder),
        "tokens_per_update": run["tokens_per_update"],
        "diverged": f"at update {result['update']}: {result['reason']}" if failed else None,
        "valid_nll": round(curve[-1][1], 4) if finite else None,
        "wall_clock": machine.wall_clock(folder),
        "hardware": run["hardware"],
        "commit": run["commit"],
        "versions": run["versions"],
    }


def evaluate(folder, args):
    """Return the rows of one run: judged, averaged, translated, scored. A diverged run has no scores."""
    run = outcome.load_run(folder)
    if not run:
        raise AdminError(f"{folder}: no run of train.sh: it has no readable run.json")
    result = outcome.load(folder)
    if not result:
        raise AdminError(f"{folder}: not trained to its end; go on with train.sh")
    if result["state"] == "done" or result["reason"].startswith("plateau"):
        result = outcome.judge(folder)  # other runs may have come meanwhile
    recipe = recipes.read_recipe(args.recipe or run["recipe_file"], recipes.TO_TRAIN)
    shared, table = run["settings"], args.results or folder.parent / "results.tsv"
    depth, data = shared["layers"], args.data or shared["data"]
    runs.check_corpus(folder, recipe, data)
    run["settings"]["data"] = str(data)
    rows = []
    for subset in args.subsets or subsets(data, recipe.source, recipe.target):
        row = {**facts(folder, run, result, table), "subset": subset}
        if result["state"] != "diverged":
            count = args.average or recipe.get("evaluation", "average", depth)
            mean, row["averaged"] = make_mean(folder, count, args.by_updates)
            beam, lenpen = (recipe.get("evaluation", key, depth) for key in ("beam", "lenpen"))
            row["decoding"] = f"beam {beam}, lenpen {lenpen:g}"
            row.update(
                score(translate(run, folder, mean, subset, recipe), data, subset, recipe, depth)
            )
        rows.append(row)
    results.append(table, rows)
    return result, rows


def show(folder, result, rows):
    """Print a run's numbers, each with its name and signature."""
    print(f"{folder}: {runs.describe(result)}")
    for row in rows:
        for column, name in results.MEASURES.items():
            if row.get(column) is not None:
                signature = row.get(column.replace("_split", "") + "_signature")
                print(f"  {row['subset']:<6} {name:<32}{row[column]:7.2f}  {signature}")


def main(argv):
    parser = argparse.ArgumentParser(
        prog="evaluate.sh",
        usage="bash scripts/evaluate.sh RUN ... [flags]",
        description="Average the last checkpoints of runs, translate the test sets, score them in every way, and write "
        "one line per run and test set to results.tsv. A second evaluation of a run replaces its lines.",
    )
    parser.add_argument(
        "runs", nargs="+", type=Path, metavar="RUN", help="folders that train.sh made"
    )
    parser.add_argument("--results", type=Path, help="(default: results.tsv beside the runs)")
    parser.add_argument(
        "--average", type=int, metavar="N", help="the last N checkpoints (default: the recipe's)"
    )
    parser.add_argument(
        "--by-updates",
        action="store_true",
        help="average those of --save-interval-updates, not epochs",
    )
    parser.add_argument("--subsets", nargs="+", metavar="SUBSET", help="test sets (default: all)")
    parser.add_argument("--recipe", help="(default: the file that the run was trained with)")
    parser.add_argument("--data", help="the prepared data (default: where the run was trained)")
    args = parser.parse_args(argv)
    if args.average is not None and args.average < 1:
        raise AdminError(f"--average {args.average}: wanted is a positive number")
    problems = []
    for folder in args.runs:
        try:
            if not folder.is_dir():
                raise AdminError("no such folder")
            with runs.locked(folder / "evaluation.lock", wait=True):
                show(folder, *evaluate(folder, args))
        except (AdminError, OSError) as error:
            problems.append(f"{folder}: {error}")
    raise_all("not evaluated:", problems)
    return 0


if __name__ == "__main__":
    sys.exit(run_main(main, "evaluate.sh"))
