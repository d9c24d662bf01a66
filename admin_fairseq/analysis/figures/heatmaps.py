"""The layer dependency as heatmaps: row i, what output i is made of; column j, of which branch."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from ... import plots
from .grid import Grid, Row, distinct, draw_grid, panels_of, set_title

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.image import AxesImage

BETA = r"$\beta_{i,j}$"
_LARGEST_WITH_NUMBERS = 12  # sites: with more, numbers do not fit into their cells
_DARK_TEXT_FROM = 0.6  # the colour map is bright there


def draw_heatmap(axis: Axes, rows: Sequence[Row], title: str) -> AxesImage:
    """Draw beta_{i,j} of one model and stack, j = 0 being the embedding.

    Args:
        axis: the panel.
        rows: with ``i``, ``j`` and ``beta``.
        title: of the panel.

    Returns:
        The image, which a colour bar can be drawn for.
    """
    size = max(row["i"] for row in rows)
    cells = [[math.nan] * (size + 1) for _ in range(size)]
    for row in rows:
        cells[row["i"] - 1][row["j"]] = row["beta"]
    image = axis.imshow(
        cells,
        cmap="viridis",
        # the same colours in all panels: one colour bar serves them
        vmin=0,
        vmax=1,
        # cells centred on their numbers: j from 0, i from 1 and downwards
        extent=(-0.5, size + 0.5, size + 0.5, 0.5),
        aspect="auto",
        interpolation="nearest",
    )
    plots.integer_ticks(axis.xaxis)
    plots.integer_ticks(axis.yaxis)
    set_title(axis, title)
    axis.set_xlabel("branch $j$ (0: embedding)")
    axis.set_ylabel("output $i$")
    if size <= _LARGEST_WITH_NUMBERS:
        _write_numbers(axis, rows)
    return image


def _write_numbers(axis: Axes, rows: Sequence[Row]) -> None:
    for row in rows:
        colour = "black" if row["beta"] > _DARK_TEXT_FROM else "white"
        number = f"{row['beta']:.2f}".lstrip("0")
        axis.text(row["j"], row["i"], number, ha="center", va="center", fontsize=5.5, color=colour)


def dependency_figure(rows: Sequence[Row]) -> Figure:
    """Draw heatmaps: a column for every model, a row for every stack; one colour bar for all."""
    models, stacks = distinct(rows, "model"), distinct(rows, "stack")

    def draw(figure: Figure, axes: Grid) -> None:
        images: list[AxesImage] = []
        for axis, title, of_panel in panels_of(axes, rows):
            images.append(draw_heatmap(axis, of_panel, title))
        every_axis: list[Axes] = []
        for line in axes:
            every_axis += line
        figure.colorbar(images[0], ax=every_axis, label=BETA, shrink=0.8, aspect=30)

    width = 3.6 if len(models) < 4 else 3.0
    return draw_grid(draw, len(stacks), len(models), width, height=3.2)
