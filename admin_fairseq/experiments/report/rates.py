"""Runs of one recipe at several peak learning rates: a table, and loss against rate as a figure.

A method that was tried at one rate alone, chosen for another, has not been given its chance. Here
each stands at all of its rates, and the best of them can be told.
"""

import logging
import re
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Optional

from ...errors import first_of
from ..recipe import read_recipe
from ..values import positive_number
from .blocks import Cell, Table
from .no_warmup import place_in_grid
from .sections import Key, Results, Section
from .tables import Row, canonical, label, loss_cell, place_of

NOTE = (
    "Final validation nll per token in bits, against the peak learning rate: mean over seeds ± "
    "sample standard deviation, of the runs that did not diverge, or of all where all did. Bold: "
    "the best rate of a method, of those at which no run diverged."
)
logger = logging.getLogger(__name__)
_RATE = re.compile(r"(?:^| )lr=(\S+)")


@dataclass(frozen=True)
class Rates:
    """The runs of one recipe, depth and test set that differ in method, rate and seed alone.

    Attributes:
        title: what they have in common, as text.
        others: what the variants have in common beside the rate, as text.
        rates: peak learning rates, ascending.
        runs: method -> rate -> the rows of its seeds.
    """

    title: str
    others: str
    rates: tuple[float, ...]
    runs: Mapping[str, Mapping[float, Sequence[Row]]]

    def best(self, method: str) -> Optional[float]:
        """Return the rate with the lowest mean loss of those at which no seed diverged.

        Over the seeds that were run at all of them: one that was run at the best rate alone says
        nothing of the others.
        """
        return _lowest(self.runs[method])

    def least_bad(self, method: str) -> float:
        """Return the best rate; where a run diverged at every rate, that of the lowest loss.

        Where no loss is known at all, all being infinite, it is the lowest rate.
        """
        runs = self.runs[method]
        for rate in (self.best(method), _lowest(runs, diverged=True)):
            if rate is not None:
                return rate
        return min(runs)


def _lowest(runs: Mapping[float, Sequence[Row]], diverged: bool = False) -> Optional[float]:
    """Return the rate with the lowest mean loss; with ``diverged``, of runs that diverged too."""
    sound = {}
    for rate, rows in runs.items():
        losses = {row["seed"]: row["valid_nll"] for row in rows if row["valid_nll"] is not None}
        if losses and (diverged or not any(row["diverged"] for row in rows)):
            sound[rate] = losses
    if not sound:
        return None
    common = set.intersection(*(set(losses) for losses in sound.values()))
    means = {}
    for rate, losses in sound.items():
        seeds = common or set(losses)
        means[rate] = statistics.mean(losses[seed] for seed in seeds)
    return min(means, key=lambda rate: means[rate])


def best_section(found: Rates, known: Results) -> Section:
    """Return each method at its own best rate as one table, with all that belongs to it."""
    rows: list[Row] = []
    chosen = []
    for method, runs in found.runs.items():
        rate = found.least_bad(method)
        rows += runs[rate]
        chosen.append(f"{label(method)} {rate:g}")
    first = rows[0]
    sound = [row for row in rows if not row["diverged"]] or rows
    # what a reader must know of each run, whichever rate it has
    shared = {
        name: "; ".join(sorted({row[name] for row in sound if row[name]}))
        for name in ("averaged", "decoding")
    }
    variant = f"best of the learning rates: {', '.join(chosen)}; {found.others}".rstrip("; ")
    key = Key(first["data"], variant, first["subset"], shared["averaged"], shared["decoding"])
    return known.section(key, rows)


def collect(rows: Sequence[Row], recipes: Mapping[str, Path]) -> list[Rates]:
    """Return the rows that differ in rates, in the order of results.tsv; nothing else is kept.

    Args:
        rows: of results.tsv.
        recipes: name -> file, for the rate of runs that have the recipe's own.
    """
    groups: dict[tuple[str, ...], dict[str, dict[float, list[Row]]]] = {}
    known: dict[tuple[str, str], Optional[float]] = {}
    unknown: dict[tuple[str, ...], list[str]] = {}
    for row in rows:
        variant = row["variant"] or ""
        # those of a grid have a figure of their own
        if place_in_grid(row) is not None:
            continue
        key: tuple[str, ...] = (row["data"], row["depth"], row["subset"], without_rate(variant))
        rate = _rate_of(row, variant, recipes, known)
        if rate is None:
            unknown.setdefault(key, []).append(row["run"])
            continue
        methods = groups.setdefault(key, {})
        methods.setdefault(canonical(row["init_type"]), {}).setdefault(rate, []).append(row)
    found = []
    for key, runs in groups.items():
        rates = sorted({rate for of_method in runs.values() for rate in of_method})
        if len(rates) > 1:
            title = ", ".join(filter(None, key))
            ordered = {method: _once_a_seed(runs[method]) for method in sorted(runs, key=place_of)}
            found.append(Rates(title, key[-1], tuple(rates), ordered))
            if key in unknown:
                logger.warning(
                    "learning rates, %s: left out, as their rate is not known (evaluate them "
                    "again, or give --recipes): %s",
                    title,
                    ", ".join(first_of(unknown[key])),
                )
    return found


def _once_a_seed(runs: Mapping[float, Sequence[Row]]) -> dict[float, list[Row]]:
    """Return the rows of a method without those that repeat a rate and seed, which is warned of.

    A run with ``--lr`` at the recipe's own rate is the recipe's run once more. One that was
    translated counts before one that was not.
    """
    found: dict[float, list[Row]] = {}
    for rate, rows in runs.items():
        of_seed: dict[int, Row] = {}
        for row in sorted(rows, key=lambda row: row["bleu"] is None):
            kept = of_seed.setdefault(row["seed"], row)
            if kept is not row:
                logger.warning(
                    "learning rates: %s is %s again, at the same rate and with the same seed: "
                    "only the latter counts",
                    row["run"],
                    kept["run"],
                )
        # in the order of results.tsv
        found[rate] = [row for row in rows if of_seed[row["seed"]] is row]
    return found


def without_rate(variant: str) -> str:
    """Return a variant without its peak learning rate."""
    return " ".join(_RATE.sub("", variant).split())


def _rate_of(
    row: Row,
    variant: str,
    recipes: Mapping[str, Path],
    known: dict[tuple[str, str], Optional[float]],
) -> Optional[float]:
    """Return the peak rate of a run; None where neither its line nor a recipe tells it."""
    if row["lr"] is not None:
        return row["lr"] if row["lr"] > 0 else None
    match = _RATE.search(variant)
    if match:
        return positive_number(match[1])
    key = (row["data"], row["depth"])
    if key not in known:
        known[key] = None
        if row["data"] in recipes:
            recipe = read_recipe(recipes[row["data"]])
            known[key] = recipe.get("training", "lr", row["depth"])
    return known[key]


def table(found: Rates) -> Table:
    """Return the final losses of runs at several rates as a table, one line a method."""
    rows = []
    for method, runs in found.runs.items():
        best = found.best(method)
        row = [Cell(label(method))]
        for rate in found.rates:
            row.append(Cell(loss_cell(runs[rate]) if rate in runs else "", rate == best))
        seeds = sorted({row["seed"] for of_rate in runs.values() for row in of_rate})
        row.append(Cell(" ".join(str(seed) for seed in seeds)))
        rows.append(row)
    columns = ["method", *(f"{rate:g}" for rate in found.rates), "seeds"]
    return Table(f"Learning rates: {found.title}", columns, rows)


def draw(path: Path, found: Rates) -> None:
    """Draw the final validation loss against the rate into a PNG file.

    A line joins the means of the seeds, one a method; a cross is a run that diverged.
    """
    # matplotlib takes longer to import than a report without figures takes to write
    from ... import plots

    lines: dict[str, dict[float, list[tuple[float, bool]]]] = {}
    for method, of_method in found.runs.items():
        lines[label(method)] = {}
        for rate in sorted(of_method):
            ends = [(row["valid_nll"], bool(row["diverged"])) for row in of_method[rate]]
            known = [end for end in ends if end[0] is not None]
            if known:
                lines[label(method)][rate] = known
    plots.save_figure(path, lambda axis: plots.draw_rates(axis, lines))
