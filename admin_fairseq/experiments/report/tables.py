"""The lines of one table: a method at a depth, its means over seeds beside the paper's number."""

import re
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Optional

from ...errors import AdminError
from ...init_types import METHODS, find_method
from .. import results
from ..published import Published

Row = dict[str, Any]  # one line of results.tsv: column -> value, None where it is empty

_FLAG = re.compile("--?[a-zA-Z]")  # and not -0.5, which is a flag's value
DIGITS = 2
NAMED = 5  # missing files that a warning names: a results.tsv may have come without any of them
# column of results.tsv -> name in tables
MEASURES = {**results.MEASURES, "valid_nll": "validation nll, bits"}
LOWER_IS_BETTER = {"valid_nll"}


def canonical(word: str) -> str:
    """Return a method's canonical word; a word that is not in the vocabulary stays as it is."""
    try:
        return find_method(word).name
    except AdminError:
        # results of a plugin with methods of its own are reported too
        return word


def label(word: str) -> str:
    """Return a method's name for tables and figures, such as ``Post-LN`` for ``default``."""
    try:
        return find_method(word).label
    except AdminError:
        return word


def mean_sd(values: Sequence[float], digits: int = DIGITS) -> str:
    """Return ``mean ± sample standard deviation``; one number alone, and no number as no text."""
    if not values:
        return ""
    mean = f"{statistics.mean(values):.{digits}f}"
    if len(values) == 1:
        return mean
    return f"{mean} ± {statistics.stdev(values):.{digits}f}"


def sound_losses(rows: Sequence[Row]) -> list[float]:
    """Return the final validation losses, in bits, of the runs that did not diverge."""
    losses = [row["valid_nll"] for row in rows if not row["diverged"]]
    return [loss for loss in losses if loss is not None]


def items_of(variant: str) -> list[str]:
    """Return a variant's changes, each whole: ``lr=1e-3``, and a flag with its values.

    Of ``--clip-norm 0.1 --dropout 0.1`` both end in 0.1: as words alone they could not be told.
    """
    items: list[str] = []
    in_flag = False
    for word in variant.split():
        is_flag = _FLAG.match(word) is not None
        if in_flag and not is_flag:
            items[-1] += f" {word}"
        else:
            items.append(word)
        in_flag = in_flag or is_flag
    return items


def shared_items(variants: Sequence[str]) -> list[str]:
    """Return the changes that all of one variant or more have, in the order of the first."""
    items = [items_of(variant) for variant in variants]
    return [item for item in items[0] if all(item in other for other in items)]


def shown_losses(rows: Sequence[Row]) -> list[float]:
    """Return the losses, in bits, of the runs that did not diverge, or of all where all did.

    Where a plateau lies tells a training that is slow from one that goes nowhere.
    """
    return sound_losses(rows) or [row["valid_nll"] for row in rows if row["valid_nll"] is not None]


def loss_cell(rows: Sequence[Row]) -> str:
    """Return ``0.49 ± 0.02``, or ``0.49; 1 of 2 diverged``, of runs with one setting."""
    losses = shown_losses(rows)
    failed = sum(bool(row["diverged"]) for row in rows)
    if not failed:
        return mean_sd(losses)
    diverged = f"{failed} of {len(rows)} diverged"
    return f"{mean_sd(losses)}; {diverged}" if losses else diverged


@dataclass(frozen=True)
class Mean:
    """A measure over seeds.

    Attributes:
        values: of the runs that have one and did not diverge.
        runs: how many were run, diverged ones included.
    """

    values: tuple[float, ...]
    runs: int

    @property
    def mean(self) -> Optional[float]:
        """The mean, or None without a value."""
        return statistics.mean(self.values) if self.values else None

    @property
    def sd(self) -> Optional[float]:
        """The sample standard deviation, or None for fewer than two values."""
        return statistics.stdev(self.values) if len(self.values) > 1 else None

    def __str__(self) -> str:
        """Return ``35.64 ± 0.23``, and ``35.64 ± 0.23 (4 of 5)`` if a seed is missing in it."""
        text = mean_sd(self.values)
        if self.values and len(self.values) < self.runs:
            text += f" ({len(self.values)} of {self.runs})"
        return text


@dataclass(frozen=True)
class Line:
    """One line of a table.

    Attributes:
        method: its canonical word.
        published: the paper's number, if there is one.
        means: column of results.tsv -> its mean over seeds.
        seeds: of the runs, in ascending order.
        diverged: how many of the runs diverged.
        updates: target -> updates to that loss, a number or a word for each seed.
    """

    depth: str
    method: str
    published: Optional[Published]
    means: dict[str, Mean]
    seeds: tuple[int, ...]
    diverged: int
    updates: dict[str, tuple[str, ...]]


def make_lines(
    rows: Sequence[Row],
    papers: Mapping[tuple[str, str], Published],
    updates: Mapping[str, Mapping[str, str]],
) -> list[Line]:
    """Return the lines of one table, by depth, and at each depth in the vocabulary's order.

    Args:
        rows: one group of results; runs that diverged count as such, and in no mean.
        papers: (canonical word, depth) -> the published number; a line without a run of ours
            has empty cells beside it.
        updates: target, such as ``0.5 bits`` -> run -> its updates to that loss.
    """
    runs: dict[tuple[str, str], list[Row]] = {key: [] for key in papers}
    for row in rows:
        runs.setdefault((canonical(row["init_type"]), row["depth"]), []).append(row)
    lines = []
    for method, depth in sorted(runs, key=_order):
        mine = sorted(runs[method, depth], key=lambda row: row["seed"])
        trained = [row for row in mine if not row["diverged"]]
        reached = {}
        for target, of_run in updates.items():
            reached[target] = tuple(of_run[row["run"]] for row in mine)
        line = Line(
            depth=depth,
            method=method,
            published=papers.get((method, depth)),
            means={column: _mean(column, trained, len(mine)) for column in MEASURES},
            seeds=tuple(row["seed"] for row in mine),
            diverged=len(mine) - len(trained),
            updates=reached,
        )
        lines.append(line)
    return lines


def measures_in(lines: Sequence[Line]) -> dict[str, str]:
    """Return column -> name in tables of the measures that one of the lines has."""
    found = {}
    for column, heading in MEASURES.items():
        if any(line.means[column].values for line in lines):
            found[column] = heading
    return found


def _mean(column: str, rows: Sequence[Row], runs: int) -> Mean:
    return Mean(tuple(row[column] for row in rows if row[column] is not None), runs)


def _order(key: tuple[str, str]) -> tuple[list[int], int]:
    method, depth = key
    # as numbers: 12-12 comes after 6-6
    return [int(layers) for layers in depth.split("-")], place_of(method)


def place_of(method: str) -> int:
    """Return where a method stands in the vocabulary's order; unknown ones come last."""
    names = [known.name for known in METHODS]
    return names.index(method) if method in names else len(names)


def find_best(lines: Sequence[Line]) -> set[tuple[str, str, str]]:
    """Return (depth, method, column) of the best of ours, at each depth and in each measure.

    Numbers that print alike are equally good. A method of which a run diverged is never the best,
    whatever its other seeds reached; and where one method alone was run, there is no best.
    """
    best = set()
    for depth in {line.depth for line in lines}:
        ours = [line for line in lines if line.depth == depth and line.seeds]
        if len(ours) < 2:
            continue
        for column in MEASURES:
            means = {}
            for line in ours:
                mean = line.means[column].mean
                if mean is not None and not line.diverged:
                    means[line.method] = round(mean, DIGITS)
            choose = min if column in LOWER_IS_BETTER else max
            for method, mean in means.items():
                if mean == choose(means.values()):
                    best.add((depth, method, column))
    return best
