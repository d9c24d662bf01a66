"""Figures for papers and reports: how lines look, where legends go, and how a figure is written.

Neither torch nor fairseq is imported, and matplotlib only when a figure is drawn, by its objects
alone: ``pyplot`` and ``matplotlib.use`` would change the backend of a notebook that imports this.
"""

from __future__ import annotations

import io
import logging
import os
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, BinaryIO

from . import files

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# the Okabe-Ito palette, which colour-blind readers can tell apart; its yellow is too pale for lines
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#8A8A00")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
DASHES = ("-", (0, (5, 2)), (0, (5, 2, 1, 2)), (0, (1, 1.2)))
RESOLUTION = 100  # dots an inch, of PNG files
_MARKERS_PER_LINE = 12


def line_styles() -> Iterator[dict[str, Any]]:
    """Yield the looks of one line after the other, without end, as keywords of ``Axes.plot``.

    Colour, marker and dashes all change. Lines grow thinner, so that one which lies exactly under a
    later one shows on both sides of it.
    """
    number = 0
    while True:
        yield {
            "color": COLOURS[number % len(COLOURS)],
            "marker": MARKERS[number % len(MARKERS)],
            "linestyle": DASHES[number % len(DASHES)],
            "linewidth": max(2.4 - 0.3 * number, 1.0),
            "markersize": 4,
            "markerfacecolor": "white",
        }
        number += 1


def plain(name: str) -> str:
    """Return a name as matplotlib shows it as it is: users name runs and methods.

    A dollar sign would begin a formula, and a label with ``_`` first is left out of legends.
    """
    return f" {name}".replace("$", r"\$") if name.startswith("_") else name.replace("$", r"\$")


def spread_markers(points: int, number: int) -> tuple[int, int]:
    """Return ``markevery`` of a line: few markers, and not where other lines have theirs.

    Args:
        points: of the line.
        number: of the line in its figure, from 0.
    """
    step = max(points // _MARKERS_PER_LINE, 1)
    return number % step, step


def draw_omega(axis: Axes, stacks: Mapping[str, Sequence[float]]) -> None:
    """Draw omega against depth. ``stacks``: name -> omegas in forward order."""
    for style, (name, omegas) in zip(line_styles(), stacks.items()):
        axis.plot(range(1, len(omegas) + 1), omegas, label=name, **style)
    axis.set_xlabel("residual site $i$, in forward order")
    axis.set_ylabel(r"$\omega_i$ at the start")
    axis.set_ylim(bottom=0)
    integer_ticks(axis.xaxis)
    legend_below(axis)


def draw_rates(
    axis: Axes, lines: Mapping[str, Mapping[float, Sequence[tuple[float, bool]]]]
) -> None:
    """Draw loss against learning rate. ``lines``: name -> rate -> (bits, diverged) of each seed.

    Rates ascend; a line goes through the means of the seeds that did not diverge.
    """
    for style, (name, of_rate) in zip(line_styles(), lines.items()):
        means = []
        for ends in of_rate.values():
            # as tables have it: of the runs that did not diverge, or of all where all did
            sound = [bits for bits, diverged in ends if not diverged]
            means.append(statistics.mean(sound or [bits for bits, _ in ends]))
        axis.plot(list(of_rate), means, label=plain(name), **style)
        for rate, ends in of_rate.items():
            for bits, diverged in ends:
                axis.plot(
                    rate,
                    bits,
                    color=style["color"],
                    marker="x" if diverged else style["marker"],
                    markersize=7 if diverged else 3,
                )
    axis.set_xscale("log")
    rates = sorted({rate for of_rate in lines.values() for rate in of_rate})
    axis.set_xticks(rates, [_power_of_ten(rate) for rate in rates], fontsize=7)
    axis.set_xticks([], minor=True)
    axis.set_xlabel("peak learning rate (x: diverged)")
    axis.set_ylabel("final validation nll per token (bits)")
    axis.set_ylim(bottom=0)
    legend_below(axis)


def _power_of_ten(number: float) -> str:
    """Return 0.002 as ``2e-3``, which leaves room for its neighbours."""
    mantissa, _, exponent = f"{number:e}".partition("e")
    return f"{float(mantissa):g}e{int(exponent)}"


def draw_curves(
    axis: Axes, curves: Mapping[str, Sequence[tuple[float, float]]], ylabel: str
) -> None:
    """Draw training curves. ``curves``: name -> (updates, value) pairs; empty ones are left out."""
    styles = line_styles()
    for number, (name, points) in enumerate(curves.items()):
        style = next(styles)  # a run keeps its colour, whichever others have a curve
        if points:
            updates, values = zip(*points)
            style["markevery"] = spread_markers(len(points), number)
            axis.plot(updates, values, label=plain(name), **style)
    axis.set_xlabel("updates")
    axis.set_ylabel(ylabel)
    legend_below(axis)


def integer_ticks(axis: Any) -> None:
    """Put ticks at whole numbers only. ``axis``: one of matplotlib's ``Axis``, x or y."""
    from matplotlib.ticker import MaxNLocator

    axis.set_major_locator(MaxNLocator(integer=True))


def legend_below(axis: Axes, title: str = "", fontsize: float = 7.5) -> None:
    """Put the legend under an axis and its labels, where it hides no data; none without lines."""
    handles, labels = axis.get_legend_handles_labels()
    if not handles:
        return
    looks = {
        "loc": "upper center",
        "bbox_to_anchor": (0.5, 0),
        "borderaxespad": 38 / fontsize,  # points below the axis: room for its ticks and label
        "title": title,
        "title_fontsize": fontsize,
        "fontsize": fontsize,
        "frameon": False,
        "handlelength": 3.2,
    }
    legend = axis.legend(handles, labels, ncols=min(2, len(handles)), **looks)
    # its width is known only once it is laid out
    if legend.get_window_extent().width > _panel_width(axis):
        axis.legend(handles, labels, ncols=1, **looks)


def _panel_width(axis: Axes) -> float:
    """Return how much of its figure's width an axis has, with its labels, in pixels."""
    place = axis.get_subplotspec()
    columns = place.get_gridspec().ncols if place else 1
    return axis.figure.bbox.width / columns


def shared_legend(figure: Figure, axis: Axes, columns: int = 4) -> None:
    """Put one legend for all axes, with the labels of one of them, under the figure."""
    handles, labels = axis.get_legend_handles_labels()
    figure.legend(
        handles,
        labels,
        loc="outside lower center",
        ncols=min(columns, len(handles)),
        fontsize=8,
        frameon=False,
        handlelength=3.2,
    )


def new_figure(
    rows: int, columns: int, width: float, height: float
) -> tuple[Figure, list[list[Axes]]]:
    """Return a figure and its axes, row by row.

    Args:
        rows: of the grid.
        columns: of the grid.
        width: of one axis with its labels, in inches.
        height: the same; legends below come on top of it.
    """
    # importing fairseq turns on everybody's debugging
    logging.getLogger("matplotlib").setLevel(logging.WARNING)
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width * columns, height * rows), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False)
    return figure, axes.tolist()


def make_room(figure: Figure, axes: Sequence[Sequence[Axes]]) -> None:
    """Make a figure higher by its legends, so that the axes over them keep their size."""
    shared = [legend.get_window_extent().height for legend in figure.legends]
    room = sum(shared)
    for row in axes:
        legends = [axis.get_legend() for axis in row]
        heights = [legend.get_window_extent().height for legend in legends if legend is not None]
        room += max(heights, default=0)
    figure.set_figheight(figure.get_figheight() + room / figure.dpi)


def write_figure(figure: Figure, path: str | os.PathLike[str]) -> None:
    """Write a figure in full colours, whole or not at all. The same figure gives the same bytes.

    Args:
        figure: of matplotlib.
        path: its ending names the format, such as ``.png``, ``.pdf`` and ``.svg``; PNG without one,
            which is added to the name of a file.

    Raises:
        OSError: if it cannot be written.
        ValueError: if matplotlib does not know the format.
    """
    ending = os.path.splitext(path)[1][1:].lower()
    if not ending:
        ending = "png"
        if not files.is_special(path):
            path = f"{os.fspath(path)}.png"
    folder = os.path.dirname(os.path.abspath(path))
    if not os.path.isdir(folder):  # a path that was mistyped is not made
        raise FileNotFoundError(f"no such folder: {folder}")
    if ending == "png":
        with files.replacing(path) as file:
            _write_png(figure, file)
        return
    # by default they hold the time, and the same figure would be other bytes
    metadata = {"pdf": {"CreationDate": None}, "svg": {"Date": None}}.get(ending)
    with files.replacing(path) as file:
        figure.savefig(file, format=ending, metadata=metadata)


def _write_png(figure: Figure, file: BinaryIO) -> None:
    from PIL import Image

    drawn = io.BytesIO()
    figure.savefig(drawn, format="png", dpi=RESOLUTION)
    # matplotlib's alpha is opaque everywhere, and a tenth of the file
    Image.open(drawn).convert("RGB").save(file, "png", optimize=True)


def save_figure(path: str | os.PathLike[str], *drawings: Callable[[Axes], object]) -> None:
    """Draw side by side and write the figure. ``drawings``: functions of an axis.

    Raises:
        OSError: if it cannot be written.
        ValueError: if the ending of ``path`` names no format that matplotlib knows.
    """
    figure, axes = new_figure(1, len(drawings), width=5, height=3.6)
    for axis, draw in zip(axes[0], drawings):
        axis.grid(alpha=0.3)
        draw(axis)
    make_room(figure, axes)
    write_figure(figure, path)
