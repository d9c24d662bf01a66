"""Rows -> PNG and PDF. Light: neither torch nor fairseq is imported.

Read the modules in this order:

1. ``grid``           panels on a grid, labels, and writing both files
2. ``heatmaps``       the layer dependency beta
3. ``output_change``  how far outputs move, and both laws of the theory
4. ``norms``          gradient norms by site and by layer
5. ``histograms``     norms of gradients and of updates by weight matrix
6. ``stability``      all that the stability report is based on
7. ``trace``          what a training logged

:func:`draw` draws what ``analyze`` measured, or saved earlier.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Optional

from . import heatmaps, histograms, norms, output_change, stability, trace
from .grid import Row, save

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Rows = Sequence[Row]
Summary = Optional[Mapping[str, Any]]

# kind of analysis -> its figure, from the rows and the summary
_FIGURES: dict[str, Callable[[Rows, Summary], Figure]] = {
    "dependency": lambda rows, summary: heatmaps.dependency_figure(rows),
    "output-change": lambda rows, summary: output_change.output_change_figure(
        rows, summary["fits"] if summary else ()
    ),
    "gradients": lambda rows, summary: norms.gradients_figure(rows),
    "updates": lambda rows, summary: histograms.updates_figure(rows),
    "stability": lambda rows, summary: stability.stability_figure(rows, summary or {}),
    "trace": lambda rows, summary: trace.trace_figure(rows),
}
KINDS = tuple(_FIGURES)


def draw(kind: str, prefix: str, rows: Rows, summary: Summary = None) -> None:
    """Write ``PREFIX.png`` and ``PREFIX.pdf`` of an analysis.

    Args:
        kind: of analysis, one of :data:`KINDS`.
        prefix: path without ending.
        rows: the numbers, as ``PREFIX.json`` has them.
        summary: what was concluded from them, as ``PREFIX.json`` has it.

    Raises:
        AdminError: if the files cannot be written.
    """
    save(prefix, _FIGURES[kind](rows, summary))
