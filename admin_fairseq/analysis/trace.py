"""What ``--trace-interval`` logged during training -> rows. Neither torch nor fairseq."""

from __future__ import annotations

from typing import Any

from ..errors import AdminError
from ..logs import read_log

FIGURES = ("omega_mean", "omega_min", "omega_max", "beta", "output_std", "gradient_norm")


def read_trace(path: str) -> list[dict[str, Any]]:
    """Return the traced figures of a training log, a row each, by the updates they are of.

    Args:
        path: a log of ``fairseq-train --log-format json --trace-interval N``.

    Returns:
        Rows with ``update``, ``site``, ``figure`` (one of :data:`FIGURES`) and ``value``.

    Raises:
        AdminError: if there is no such log, or nothing was traced in it.
    """
    try:
        with open(path, encoding="utf-8") as file:
            file.read(1)
    except (OSError, UnicodeDecodeError) as error:
        raise AdminError(f"{path}: cannot be read: {error}") from None
    rows: list[dict[str, Any]] = []
    seen = set()
    for record in read_log(path)[0]:
        update = record.get("traced_update")
        if update in seen or not isinstance(update, (int, float)):
            continue  # a line between two measurements repeats the first
        seen.add(update)
        rows += _rows_of(record, int(update))
    if not rows:
        raise AdminError(
            f"{path}: nothing is traced in it; train with --trace-interval 100 (or another number "
            "of updates), --log-format json or simple, and for more updates than --log-interval"
        )
    return rows


def _rows_of(record: dict[str, Any], update: int) -> list[dict[str, Any]]:
    """Return the rows of one line of a log."""
    rows = []
    for key, value in record.items():
        figure, _, site = key.partition("/")
        if site and figure in FIGURES and isinstance(value, (int, float)):
            rows.append({"update": update, "site": site, "figure": figure, "value": float(value)})
    return rows
