"""How norms of gradients and of updates are spread over the weight matrices of a model."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ... import plots
from .grid import Grid, Row, distinct, draw_grid, panels_of, set_title

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_PER_DECADE = 4  # bins
# what a row has -> its label and look: an outline stays visible over bars, in grey as well
_NORMS: dict[str, tuple[str, dict[str, Any]]] = {
    "gradient": (
        r"gradient, $|\partial L/\partial W|$",
        {"fill": True, "color": plots.COLOURS[5], "alpha": 0.7},
    ),
    "update": (
        r"update, $|W_\mathrm{after} - W_\mathrm{before}|$",
        {"fill": False, "edgecolor": plots.COLOURS[1], "linewidth": 1.6},
    ),
}


def _bin(norm: float) -> int:
    """Return the bin of a relative norm: -1 is the last, which ends at 1."""
    return min(math.floor(math.log10(norm) * _PER_DECADE), -1)


def _draw_histograms(axis: Axes, rows: Sequence[Row], title: str, first: int) -> None:
    """Draw both histograms of one model and stack on a logarithmic axis, where 0 has no place.

    Args:
        axis: the panel.
        rows: of the panel, one a weight matrix.
        title: of the panel; norms of 0 are told below it.
        first: the bin that the axis begins with.
    """
    edges = [10 ** (number / _PER_DECADE) for number in range(first, 1)]
    for what, (label, look) in _NORMS.items():
        norms = [row[f"relative_{what}"] for row in rows]
        counts = Counter(_bin(norm) for norm in norms if norm > 0)
        axis.stairs([counts[number] for number in range(first, 0)], edges, label=label, **look)
        if 0 in norms:
            title += f"\n{norms.count(0)} of {len(norms)} {what}s are 0"
    axis.set_xscale("log")
    axis.set_xlim(edges[0], edges[-1])
    plots.integer_ticks(axis.yaxis)
    axis.grid(alpha=0.3)
    axis.set_xlabel("norm / the model's largest")
    axis.set_ylabel("weight matrices")
    set_title(axis, title)


def updates_figure(rows: Sequence[Row]) -> Figure:
    """Draw histograms: a column for every model, a row for every stack; the same bins in all."""
    models, stacks = distinct(rows, "model"), distinct(rows, "stack")
    norms = [row[f"relative_{what}"] for row in rows for what in _NORMS]
    lowest = min((_bin(norm) for norm in norms if norm > 0), default=-1)
    first = math.floor(lowest / _PER_DECADE) * _PER_DECADE  # a whole decade

    def draw(figure: Figure, axes: Grid) -> None:
        for axis, title, of_panel in panels_of(axes, rows):
            _draw_histograms(axis, of_panel, title, first)
        plots.shared_legend(figure, axes[0][0])

    return draw_grid(draw, len(stacks), len(models), width=3.6, height=2.6)
