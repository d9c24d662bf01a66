"""Runs of one recipe at several peak learning rates: a table, and loss against rate as a figure.

A method that was tried at one rate alone, chosen for another, has not been given its chance. Here
each stands at all of its rates, and the best of them can be told.
"""

import re
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Optional

from ..recipe import TO_TRAIN, read_recipe
from .tables import Row, canonical, label, mean_sd, place_of

_RATE = re.compile(r"(?:^| )lr=(\S+)")


@dataclass(frozen=True)
class Rates:
    """The runs of one recipe, depth and test set that differ in method, rate and seed alone.

    Attributes:
        title: what they have in common, as text.
        rates: peak learning rates, ascending.
        runs: method -> rate -> the rows of its seeds.
    """

    title: str
    rates: tuple[float, ...]
    runs: Mapping[str, Mapping[float, Sequence[Row]]]

    def best(self, method: str) -> Optional[float]:
        """Return the rate with the lowest mean loss of those at which no seed diverged."""
        means = {}
        for rate, rows in self.runs[method].items():
            losses = [row["valid_nll"] for row in rows if row["valid_nll"] is not None]
            if losses and not any(row["diverged"] for row in rows):
                means[rate] = statistics.mean(losses)
        return min(means, key=lambda rate: means[rate]) if means else None


def collect(rows: Sequence[Row], recipes: Mapping[str, Path]) -> list[Rates]:
    """Return the rows that differ in rates, in the order of results.tsv; nothing else is kept.

    Args:
        rows: of results.tsv.
        recipes: name -> file, for the rate of runs that have the recipe's own.
    """
    groups: dict[tuple[str, ...], dict[str, dict[float, list[Row]]]] = {}
    known: dict[tuple[str, str], Optional[float]] = {}
    for row in rows:
        variant = row["variant"] or ""
        rate = _rate_of(row, variant, recipes, known)
        if rate is None:
            continue
        others = " ".join(_RATE.sub("", variant).split())
        key: tuple[str, ...] = (row["data"], row["depth"], row["subset"], others)
        methods = groups.setdefault(key, {})
        methods.setdefault(canonical(row["init_type"]), {}).setdefault(rate, []).append(row)
    found = []
    for key, runs in groups.items():
        rates = sorted({rate for of_method in runs.values() for rate in of_method})
        if len(rates) > 1:
            ordered = {method: runs[method] for method in sorted(runs, key=place_of)}
            found.append(Rates(", ".join(filter(None, key)), tuple(rates), ordered))
    return found


def _rate_of(
    row: Row,
    variant: str,
    recipes: Mapping[str, Path],
    known: dict[tuple[str, str], Optional[float]],
) -> Optional[float]:
    """Return the peak rate of a run; None where neither its variant nor a recipe tells it."""
    match = _RATE.search(variant)
    if match:
        try:
            return float(match[1])
        except ValueError:
            return None
    key = (row["data"], row["depth"])
    if key not in known:
        known[key] = None
        if row["data"] in recipes:
            recipe = read_recipe(recipes[row["data"]], TO_TRAIN)
            known[key] = recipe.get("training", "lr", row["depth"])
    return known[key]


def cell(rows: Sequence[Row]) -> str:
    """Return ``0.49 ± 0.02``, or ``0.49; 1 of 2 diverged``, of a method at a rate."""
    sound = [row for row in rows if not row["diverged"]]
    losses = [row["valid_nll"] for row in sound if row["valid_nll"] is not None]
    if len(sound) == len(rows):
        return mean_sd(losses)
    diverged = f"{len(rows) - len(sound)} of {len(rows)} diverged"
    return f"{mean_sd(losses)}; {diverged}" if losses else diverged


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
