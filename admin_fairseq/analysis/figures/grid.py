"""Panels on a grid: grouping rows, naming models, laying out, and writing PNG and PDF."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from ... import plots
from ...errors import AdminError
from ...init_types import find_method

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Row = dict[str, Any]
Grid = list[list["Axes"]]
TITLE_SIZE = 9


def draw_grid(
    draw: Callable[[Figure, Grid], object], rows: int, columns: int, width: float, height: float
) -> Figure:
    """Draw panels on a grid.

    Args:
        draw: function of the figure and its axes, row by row.
        rows: of the grid.
        columns: of the grid.
        width: of one panel, in inches.
        height: of one panel without its legend, in inches.
    """
    figure, axes = plots.new_figure(rows, columns, width, height)
    draw(figure, axes)
    # afterwards: a legend has no size before it is there
    plots.make_room(figure, axes)
    return figure


def save(prefix: str, figure: Figure) -> None:
    """Write ``PREFIX.png`` and ``PREFIX.pdf``.

    Raises:
        AdminError: if they cannot be written.
    """
    try:
        for ending in ("png", "pdf"):
            plots.write_figure(figure, f"{prefix}.{ending}")
    except OSError as error:
        raise AdminError(f"--out {prefix}: cannot be written: {error}") from None


def group(rows: Sequence[Row], *keys: str) -> OrderedDict[tuple[Any, ...], list[Row]]:
    """Return the rows by the values of some keys, in order of appearance."""
    found: OrderedDict[tuple[Any, ...], list[Row]] = OrderedDict()
    for row in rows:
        values = tuple(row[key] for key in keys)
        found.setdefault(values, []).append(row)
    return found


def distinct(rows: Sequence[Row], key: str) -> list[Any]:
    """Return the different values of a key, in order of appearance."""
    return list(dict.fromkeys(row[key] for row in rows))


def model_label(name: str) -> str:
    """Return what a figure calls a model: a method by its label, any other as the user named it."""
    try:
        return find_method(name).label
    except AdminError:
        return name.replace("$", r"\$")  # else a formula to matplotlib


def panels_of(axes: Grid, rows: Sequence[Row]) -> Iterator[tuple[Axes, str, list[Row]]]:
    """Yield axis, title and rows of each panel: a column for a model, a row for a stack.

    A place whose model has no such stack is turned off.
    """
    panels = group(rows, "model", "stack")
    for line, stack in zip(axes, distinct(rows, "stack")):
        for axis, model in zip(line, distinct(rows, "model")):
            if (model, stack) in panels:
                yield axis, f"{model_label(model)}, {stack}", panels[model, stack]
            else:
                axis.axis("off")


def set_title(axis: Axes, text: str) -> None:
    """Put a small title over a panel."""
    axis.set_title(text, fontsize=TITLE_SIZE)
