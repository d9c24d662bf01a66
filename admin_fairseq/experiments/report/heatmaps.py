"""Tables as heatmaps with the same colours."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from ... import plots

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def draw_heatmaps(
    panels: Mapping[str, Sequence[Sequence[tuple[float | None, str]]]],
    ticks: tuple[Sequence[str], Sequence[str]],
    labels: tuple[str, str],
    colour_label: str,
    columns: int,
) -> Figure:
    """Draw tables as heatmaps with the same colours.

    Args:
        panels: title -> rows, from the bottom up, of cells: a value and what is written over it; a
            cell without a value is grey if something is written there, and else empty. One or more.
        ticks, labels: of the columns and of the rows.
        colour_label: what the values are.
        columns: heatmaps side by side, at most.
    """
    from matplotlib.colors import ListedColormap

    columns = min(columns, len(panels))
    lines = math.ceil(len(panels) / columns)
    figure, axes = plots.new_figure(lines, columns, width=2.6, height=2.3)
    every = [axis for line in axes for axis in line]
    known = [value for rows in panels.values() for row in rows for value, _ in row if value]
    low, high = (min(known), max(known)) if known else (0.0, 1.0)
    for axis, (title, rows) in zip(every, panels.items()):
        failed = [[1.0 if text and value is None else math.nan for value, text in r] for r in rows]
        axis.imshow(failed, cmap=ListedColormap(["#d9d9d9"]), origin="lower", aspect="auto")
        values = [[math.nan if value is None else value for value, _ in row] for row in rows]
        image = axis.imshow(
            values, cmap="viridis_r", vmin=low, vmax=high, origin="lower", aspect="auto"
        )
        for y, row in enumerate(rows):
            for x, (value, text) in enumerate(row):
                # the colour map is dark at its high end
                dark = value is not None and value > low + 0.45 * (high - low)
                colour = "white" if dark else "black"
                axis.text(x, y, text, ha="center", va="center", fontsize=7, color=colour)
        for of_axis, of_ticks in ((axis.xaxis, ticks[0]), (axis.yaxis, ticks[1])):
            of_axis.set_ticks(range(len(of_ticks)), of_ticks)
        axis.set(xlabel=labels[0], ylabel=labels[1])
        axis.set_title(plots.plain(title), fontsize=9)
    for axis in every[len(panels) :]:
        axis.axis("off")
    figure.colorbar(image, ax=every, label=colour_label, shrink=0.8)
    return figure
