"""What the stability report is based on: magnitudes, beta, gradients and output change."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ... import plots
from .grid import Grid, Row, draw_grid, model_label, set_title
from .heatmaps import BETA, draw_heatmap
from .norms import draw_by_site

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_COLUMNS = 3
_HATCHES = ("", "//")  # bars are told apart in black and white too


def _draw_largest(axis: Axes, rows: Sequence[Row]) -> None:
    """Draw the largest magnitude at every site; a red line marks the first that is not finite."""
    for what, style in zip(("branch", "shortcut"), plots.line_styles()):
        for stack, dashes in (("encoder", "-"), ("decoder", "--")):
            places, values = [], []
            for place, row in enumerate(rows, 1):
                if row["site"].startswith(stack):
                    places.append(place)
                    values.append(row[what])
            axis.plot(
                places,
                values,
                color=style["color"],
                marker=style["marker"],
                markersize=3,
                markerfacecolor="white" if stack == "decoder" else style["color"],
                linestyle=dashes,
                linewidth=1,
                label=f"{what}, {stack}",
            )
    for place, row in enumerate(rows, 1):
        if math.isnan(row["branch"]) or math.isnan(row["shortcut"]):
            axis.axvline(place, color="red", label="first that is not finite")
            break
    axis.set_yscale("log")
    axis.grid(alpha=0.3)
    axis.set_xlabel("residual site: encoder, then decoder")
    axis.set_ylabel("largest magnitude")
    set_title(axis, model_label(rows[0]["model"]))
    plots.legend_below(axis)


def draw_changes(axis: Axes, changes: Mapping[str, Mapping[str, float]]) -> None:
    """Draw output changes side by side, from 0. ``changes``: model -> {stack: value}."""
    width = 0.8 / len(changes)
    stacks: list[str] = []
    for number, (name, by_stack) in enumerate(changes.items()):
        stacks = list(by_stack)
        offset = (number - (len(changes) - 1) / 2) * width
        axis.bar(
            [place + offset for place in range(len(stacks))],
            list(by_stack.values()),
            width,
            color=plots.COLOURS[number % len(plots.COLOURS)],
            hatch=_HATCHES[number % len(_HATCHES)],
            edgecolor="white",
            label=model_label(name),
        )
    axis.set_xticks(range(len(stacks)), stacks)
    axis.set_ylabel(r"$|\Delta x_N|^2 / |x_N|^2$, random $\Delta W$")
    plots.legend_below(axis)


def stability_figure(rows: Sequence[Row], summary: Mapping[str, Any]) -> Figure:
    """Draw all that was measured: magnitudes alone where the model is not finite.

    Args:
        rows: one a site: ``largest`` magnitudes and, where the model is finite, gradient norms.
        summary: has ``output change`` and, where the model is finite, ``beta``:
            {stack: rows of floats}.
    """
    drawings: list[Callable[[Axes], None]] = [lambda axis: _draw_largest(axis, rows)]
    for stack, betas in (summary.get("beta") or {}).items():
        drawings.append(_heatmap_of(stack, betas))
    if "weights" in rows[0]:
        drawings.append(lambda axis: _draw_gradients(axis, rows))
    if summary.get("output change"):
        drawings.append(lambda axis: draw_changes(axis, summary["output change"]))

    def draw(figure: Figure, axes: Grid) -> None:
        every_axis: list[Axes] = []
        for line in axes:
            every_axis += line
        for axis, drawing in zip(every_axis, drawings):
            drawing(axis)
        for axis in every_axis[len(drawings) :]:
            axis.axis("off")

    columns = min(_COLUMNS, len(drawings))
    return draw_grid(draw, math.ceil(len(drawings) / columns), columns, width=4.2, height=3.2)


def _heatmap_of(stack: str, betas: Sequence[Sequence[float]]) -> Callable[[Axes], None]:
    rows: list[Row] = []
    for i, row in enumerate(betas, 1):
        for j, beta in enumerate(row):
            rows.append({"i": i, "j": j, "beta": beta})

    def draw(axis: Axes) -> None:
        image = draw_heatmap(axis, rows, f"dependency, {stack}")
        axis.figure.colorbar(image, ax=axis, label=BETA)

    return draw


def _draw_gradients(axis: Axes, rows: Sequence[Row]) -> None:
    draw_by_site(axis, rows, "weights")
    plots.legend_below(axis)
