"""What ``--trace-interval`` logged during training: a line for every site."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from .grid import Grid, Row, distinct, draw_grid, group, set_title

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# traced figure -> its label; the others are in the table only
TRACED = {
    "omega_mean": r"$\omega_i$, mean over channels",
    "beta": r"$\beta_{i,i}$",
    "gradient_norm": r"$|\partial L/\partial W|$ of the branch",
}
STACKS = ("encoder", "decoder")


def _draw_traced(axis: Axes, rows: Sequence[Row], colour_of: Mapping[str, Any]) -> None:
    """Draw one traced figure of one stack against updates. ``colour_of``: site -> colour."""
    for (site,), mine in group(rows, "site").items():
        updates = [row["update"] for row in mine]
        values = [row["value"] for row in mine]
        axis.plot(updates, values, color=colour_of[site], linewidth=0.9)
    axis.set_xlabel("updates")
    axis.grid(alpha=0.3)


def trace_figure(rows: Sequence[Row]) -> Figure:
    """Draw a column for each figure that was traced, a row with its colour bar for each stack."""
    traced = distinct(rows, "figure")
    shown = [name for name in TRACED if name in traced]

    def draw(figure: Figure, axes: Grid) -> None:
        for line, stack in zip(axes, STACKS):
            of_stack = [row for row in rows if row["site"].startswith(stack)]
            panels = group(of_stack, "figure")
            colours, colour_of = _site_colours(distinct(of_stack, "site"))
            for axis, name in zip(line, shown):
                _draw_traced(axis, panels.get((name,), ()), colour_of)
                axis.set_ylabel(TRACED[name])
                set_title(axis, stack)
            figure.colorbar(colours, ax=line, label="residual site $i$")

    return draw_grid(draw, len(STACKS), len(shown), width=4, height=2.8)


def _site_colours(sites: Sequence[str]) -> tuple[Any, dict[str, Any]]:
    """Return matplotlib's mappable for a colour bar, and site -> colour, in forward order."""
    import numpy
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize

    # a colour bar needs two different ends
    colours = ScalarMappable(Normalize(1, max(len(sites), 2)), cmap="viridis")
    places = colours.to_rgba(numpy.arange(1, len(sites) + 1))
    return colours, dict(zip(sites, places))
