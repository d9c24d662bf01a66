"""Gradient norms: a colour for every model, solid in the encoder, dashed in the decoder."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from ... import plots
from .grid import Grid, Row, draw_grid, group, model_label

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# what a row has of a site -> its label
NORMS = {
    "weights": r"$|\partial L/\partial W|$ of the site's branch",
    "output": r"$|\partial L/\partial x_i|$, $x_i$ the site's sum",
}
Points = Sequence[tuple[int, float]]


def _draw_norms(
    axis: Axes, rows: Sequence[Row], points_of: Callable[[Sequence[Row]], Points]
) -> None:
    """Draw norms on a logarithmic axis, where 0 has no place: it is left out.

    Args:
        axis: the panel.
        rows: of any models and stacks.
        points_of: of the rows of one model and stack -> pairs (place, norm).
    """
    for style, ((model,), of_model) in zip(plots.line_styles(), group(rows, "model").items()):
        for (stack,), mine in group(of_model, "stack").items():
            places, norms = zip(*points_of(mine))
            shown = [norm if norm > 0 else math.nan for norm in norms]
            label = f"{model_label(model)}, {stack}"
            if not any(norm > 0 for norm in norms):
                # the legend has it all the same, so that nobody looks for a line
                label += " (0)"
            axis.plot(
                places,
                shown,
                color=style["color"],
                marker=style["marker"],
                markersize=3,
                markerfacecolor="white" if stack == "decoder" else style["color"],
                linestyle="--" if stack == "decoder" else "-",
                linewidth=1,
                label=label,
            )
    axis.set_yscale("log")
    plots.integer_ticks(axis.xaxis)
    axis.grid(alpha=0.3)


def draw_by_site(axis: Axes, rows: Sequence[Row], norm: str) -> None:
    """Draw one of :data:`NORMS` against the site's place in its stack."""

    def points_of(mine: Sequence[Row]) -> Points:
        return [(place, row[norm]) for place, row in enumerate(mine, 1)]

    _draw_norms(axis, rows, points_of)
    axis.set_xlabel("residual site $i$ of its stack")
    axis.set_ylabel(NORMS[norm])


def _draw_by_layer(axis: Axes, rows: Sequence[Row]) -> None:
    """Draw the norm of all branches of a layer against its number."""

    def points_of(mine: Sequence[Row]) -> Points:
        norms = {row["layer"]: row["layer_weights"] for row in mine}
        return list(norms.items())

    _draw_norms(axis, rows, points_of)
    axis.set_xlabel("layer, from 0")
    axis.set_ylabel(r"$|\partial L/\partial W|$ of the layer's branches")


def gradients_figure(rows: Sequence[Row]) -> Figure:
    """Draw norms by site, of the branch's weights and of the sum; and by layer."""

    def draw(figure: Figure, axes: Grid) -> None:
        by_weights, by_output, by_layer = axes[0]
        draw_by_site(by_weights, rows, "weights")
        draw_by_site(by_output, rows, "output")
        _draw_by_layer(by_layer, rows)
        plots.shared_legend(figure, by_weights)

    return draw_grid(draw, 1, 3, width=4.2, height=3.4)
