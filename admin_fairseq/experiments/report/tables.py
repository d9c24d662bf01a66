"""From results.tsv to tables: ours beside the papers', over seeds, with paired significance."""

import logging
import statistics
from collections import OrderedDict
from itertools import combinations
from pathlib import Path

from ...errors import AdminError
from ...logs import read_generation, read_log
from .. import results
from ..recipe import read_published
from . import significance

logger = logging.getLogger(__name__)


def mean_sd(values, digits=2):
    """Return ``mean ± sample standard deviation`` as text; the number alone for one, empty for none."""
    if not values:
        return ""
    mean = f"{statistics.mean(values):.{digits}f}"
    return mean if len(values) == 1 else f"{mean} ± {statistics.stdev(values):.{digits}f}"


def groups(rows):
    """Return (data, variant, subset, averaged, decoding) -> its rows: what may stand in one table."""
    found = OrderedDict()
    # a diverged run has neither averaged nor decoded: it belongs to every table of its data, variant and subset
    for row in rows:
        if not row["diverged"]:
            key = tuple(
                row[name] or "" for name in ("data", "variant", "subset", "averaged", "decoding")
            )
            found.setdefault(key, []).append(row)
    for row in rows:
        if row["diverged"]:
            key = tuple(row[name] or "" for name in ("data", "variant", "subset"))
            same = [other for other in found if other[:3] == key]
            for other in same or [(*key, "", "")]:
                found.setdefault(other, []).append(row)
    return found


def table(rows, papers):
    """Return the lines of one table, dicts of text, by depth and init type.

    Args:
        rows: one group of results; runs that diverged count as such, and in no mean.
        papers: (init type, depth) -> Published; lines without a run of ours have empty columns.
    """
    cells = OrderedDict((key, []) for key in papers)
    for row in rows:
        cells.setdefault((row["init_type"], row["depth"]), []).append(row)
    lines = []
    for (init_type, depth), mine in sorted(
        cells.items(), key=lambda cell: [int(n) for n in cell[0][1].split("-")]
    ):
        paper = papers.get((init_type, depth))
        good = [row for row in mine if not row["diverged"]]
        line = OrderedDict([("depth", depth), ("init type", init_type)])
        line["published"] = paper.number if paper else ""
        for column, name in results.MEASURES.items():
            line[name] = mean_sd([row[column] for row in good if row[column] is not None])
        line["validation nll, bits"] = mean_sd(
            [row["valid_nll"] for row in good if row["valid_nll"] is not None]
        )
        line["seeds"] = " ".join(
            str(row["seed"]) for row in sorted(mine, key=lambda row: row["seed"])
        )
        line["diverged"] = f"{len(mine) - len(good)} of {len(mine)}" if mine else ""
        line["source of the published number"] = paper.source if paper else ""
        lines.append(line)
    return lines


def comparisons(rows, folder):
    """Return the paired tests between init types of the same depth and seed: dicts of text.

    Runs whose translation is not there any more are left out, with a warning.
    """
    pairs = [
        (a, b)
        for a, b in combinations(rows, 2)
        if a["depth"] == b["depth"]
        and a["seed"] == b["seed"]
        and a["init_type"] != b["init_type"]
        and not a["diverged"]
        and not b["diverged"]
    ]
    outputs, lines = {}, []
    for pair in pairs:
        for row in pair:
            path = Path(folder) / row["run"] / f"{row['subset']}.out"
            if path not in outputs:
                outputs[path] = read_generation(path) if path.is_file() else None
                if outputs[path] is None:
                    logger.warning("%s: not there; its run is not tested for significance", path)
        first, second = (
            outputs[Path(folder) / row["run"] / f"{row['subset']}.out"] for row in pair
        )
        if first is None or second is None:
            continue
        if first[0] != second[0]:
            raise AdminError(
                f"{pair[0]['run']} and {pair[1]['run']}: their outputs of {pair[0]['subset']} are of two test sets"
            )
        before, after, p, signature = significance.paired_bootstrap(first[1], second[1], first[0])
        names = OrderedDict([("depth", pair[0]["depth"]), ("seed", str(pair[0]["seed"]))])
        names["init types"] = f"{pair[0]['init_type']}, {pair[1]['init_type']}"
        names.update(
            {
                "tokenised BLEU": f"{before:.2f}, {after:.2f}",
                "p": f"{p:.4f}",
                "signature": signature,
            }
        )
        lines.append(names)
    return lines


def curves(rows, folder):
    """Return name -> validation curve [(updates, bits a token)] of the runs of a group, from their logs."""
    found = OrderedDict()
    for row in rows:
        log = Path(folder) / row["run"] / "train.log"
        points = [(record["num_updates"], float(record["nll_loss"])) for record in read_log(log)[1]]
        if not points:
            logger.warning("%s: no validation in it, or not there; its curve is missing", log)
        else:
            found[f"{row['init_type']} {row['depth']} seed {row['seed']}"] = points
    return found


def build(path, recipes):
    """Return the sections of the report: dicts of heading, facts, tables and curves.

    Args:
        path: results.tsv.
        recipes: the folder of recipe files, for the published numbers.
    """
    folder, sections = Path(path).resolve().parent, []
    rows = results.read(path)
    if not rows:
        raise AdminError(f"{path}: no results in it yet")
    for (data, variant, subset, averaged, decoding), mine in groups(rows).items():
        papers = (
            read_published(Path(recipes) / f"{data}.ini")
            if subset == "test" and not variant
            else {}
        )
        facts = OrderedDict(
            [("variant", variant or "the recipe as it stands"), ("averaged", averaged)]
        )
        facts["decoding"] = decoding
        for name in (
            "updates",
            "tokens_per_update",
            "hardware",
            "commit",
            "versions",
            "wall_clock",
        ):
            values = sorted({row[name] for row in mine if row[name] is not None})
            unit = " s" if name == "wall_clock" else ""
            facts[name.replace("_", " ")] = "; ".join(f"{value}{unit}" for value in values)
        for name in ("bleu", "sacrebleu", "chrf"):
            values = {row[name + "_signature"] for row in mine if row[name + "_signature"]}
            facts[f"signature, {results.MEASURES[name]}"] = "; ".join(sorted(values))
        diverged = [
            f"{row['init_type']} {row['depth']} seed {row['seed']} {row['diverged']}"
            for row in mine
            if row["diverged"]
        ]
        facts["diverged"] = "; ".join(diverged)
        sections.append(
            {
                "key": (data, variant, subset, averaged, decoding),
                "heading": f"{data}, {subset}" + (f" ({variant})" if variant else ""),
                "facts": {name: value for name, value in facts.items() if value},
                "table": table(mine, papers),
                "comparisons": comparisons(mine, folder),
                "curves": curves(mine, folder),
            }
        )
    return sections
