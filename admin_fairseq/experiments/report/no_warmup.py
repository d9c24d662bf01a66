"""Runs without warm-up over rates and beta2: who trains where, as a table and as a heatmap.

The grid of ``admin-fairseq sweep --no-warmup-grid`` (Liu et al., EMNLP 2020, section 5.4, trains
without warm-up over such a grid). A run that diverged is a cross, whatever its last loss.
"""

from __future__ import annotations

import re
import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..values import positive_number
from .blocks import Cell, Table
from .tables import (
    Row,
    canonical,
    items_of,
    label,
    loss_cell,
    place_of,
    shared_items,
    shown_losses,
    sound_losses,
)

NOTE = (
    "Final validation nll per token in bits of runs without warm-up, over peak learning rate and "
    "beta2: mean over the seeds that did not diverge, or over all where all did. Bold: the best of "
    "a model, where no seed did."
)
_CHOICE = re.compile(r"(?:^| )(lr|beta2)=(\S+)")
_WORD = "no-warmup"
_ABREAST = 4


@dataclass(frozen=True)
class Grid:
    """The runs without warm-up of one recipe and test set.

    Attributes:
        title: what they have in common, as text.
        rates: peak learning rates, ascending; so are ``beta2s``.
        runs: panel -> (rate, beta2) -> the rows of its seeds. A panel is a depth, a method and what
            else differs, such as the optimizer.
        columns: panels side by side, at most: the methods, where each depth and optimizer has as
            many.
    """

    title: str
    rates: tuple[float, ...]
    beta2s: tuple[float, ...]
    runs: Mapping[str, Mapping[tuple[float, float], Sequence[Row]]]
    columns: int


def place_in_grid(row: Row) -> tuple[float, float] | None:
    """Return rate and beta2 of a run without warm-up; None for all other runs."""
    variant = row["variant"] or ""
    chosen = dict(_CHOICE.findall(variant))
    # the first word, as train and sweep write it
    if variant.partition(" ")[0] != _WORD or len(chosen) < 2:
        return None
    rate, beta2 = positive_number(chosen["lr"]), positive_number(chosen["beta2"])
    return None if rate is None or beta2 is None else (rate, beta2)


def collect(rows: Sequence[Row]) -> list[Grid]:
    """Return the rows of runs without warm-up, a grid for each recipe and test set."""
    groups: dict[tuple[str, str], dict[tuple[str, str, str], list[tuple[float, float, Row]]]] = {}
    for row in rows:
        place = place_in_grid(row)
        if place is None:
            continue
        rate, beta2 = place
        others = " ".join(_CHOICE.sub("", row["variant"]).split()[1:])
        panel = (row["depth"], others, canonical(row["init_type"]))
        panels = groups.setdefault((row["data"], row["subset"]), {})
        panels.setdefault(panel, []).append((rate, beta2, row))
    return [_make_grid(key, panels) for key, panels in groups.items()]


def _make_grid(
    key: tuple[str, str], panels: Mapping[tuple[str, str, str], list[tuple[float, float, Row]]]
) -> Grid:
    cells = [cell for of_panel in panels.values() for cell in of_panel]
    # what all have is said once, in the title
    shared = shared_items([others for _, others, _ in panels])
    runs: dict[str, dict[tuple[float, float], list[Row]]] = {}
    for depth, others, method in sorted(panels, key=_order):
        own = [item.lstrip("-") for item in items_of(others) if item not in shared]
        name = " ".join([depth, label(method), *own])
        if name in runs:  # the same flags in another order are another variant
            name = f"{depth} {label(method)} {others}"
        for rate, beta2, row in panels[depth, others, method]:
            runs.setdefault(name, {}).setdefault((rate, beta2), []).append(row)
    methods = set(Counter((depth, others) for depth, others, _ in panels).values())
    return Grid(
        title=", ".join([*key, _WORD, *shared]),
        rates=tuple(sorted({rate for rate, _, _ in cells})),
        beta2s=tuple(sorted({beta2 for _, beta2, _ in cells})),
        runs=runs,
        columns=min(_ABREAST, *methods) if len(methods) == 1 else _ABREAST,
    )


def _order(panel: tuple[str, str, str]) -> tuple[list[int], str, int]:
    depth, others, method = panel
    return [int(layers) for layers in depth.split("-")], others, place_of(method)


def mean_loss(rows: Sequence[Row]) -> float | None:
    """Return the mean final validation loss, in bits, of the runs that did not diverge."""
    losses = sound_losses(rows)
    return statistics.mean(losses) if losses else None


def table(grid: Grid) -> Table:
    """Return a grid without warm-up as a table: a line for each model and beta2."""
    rows = []
    for panel, runs in grid.runs.items():
        means = {}
        for place, of_place in runs.items():
            if not any(row["diverged"] for row in of_place):
                means[place] = mean_loss(of_place)
        best = min((mean for mean in means.values() if mean is not None), default=None)
        for beta2 in grid.beta2s:
            row = [Cell(panel), Cell(f"{beta2:g}")]
            for rate in grid.rates:
                here = runs.get((rate, beta2), ())
                mean = means.get((rate, beta2))
                is_best = mean is not None and mean == best
                row.append(Cell(loss_cell(here) if here else "", is_best))
            rows.append(row)
    columns = ["model", "beta2", *(f"{rate:g}" for rate in grid.rates)]
    return Table(f"Without warm-up: {grid.title}", columns, rows)


def draw(path: Path, grid: Grid) -> None:
    """Draw a heatmap of each panel into a PNG file: rate to the right, beta2 up."""
    # matplotlib takes longer to import than a report without figures takes to write
    from ... import plots
    from .heatmaps import draw_heatmaps

    panels: dict[str, list[list[tuple[float | None, str]]]] = {}
    for name, runs in grid.runs.items():
        panels[name] = []
        for beta2 in grid.beta2s:
            line: list[tuple[float | None, str]] = []
            for rate in grid.rates:
                rows = runs.get((rate, beta2), [])
                loss = mean_loss(rows)
                failed = sum(bool(row["diverged"]) for row in rows)
                # a cell in which all diverged has no colour, and says where its plateau lies
                shown = shown_losses(rows)
                text = f"{statistics.mean(shown):.2f}" if shown else ""
                if failed:
                    text = "\n".join(filter(None, [text, f"x {failed} of {len(rows)}"]))
                line.append((loss, text))
            panels[name].append(line)
    ticks = [f"{rate:g}" for rate in grid.rates], [f"{beta2:g}" for beta2 in grid.beta2s]
    figure = draw_heatmaps(
        panels,
        ticks,
        ("peak learning rate", r"$\beta_2$"),
        "final validation nll, bits\n(x: diverged)",
        grid.columns,
    )
    plots.write_figure(figure, path)
