"""Learning curves of runs, from their logs: drawn, and compared by updates to the common loss."""

import logging
from collections.abc import Iterable, Mapping, Sequence
from math import isfinite
from pathlib import Path
from typing import Optional

from ...errors import first_of
from ...logs import Curve, curve_of, read_log
from .tables import NAMED, Row, label

logger = logging.getLogger(__name__)

NEVER = "never"
NO_LOG = "no log"


def read_curves(rows: Iterable[Row], folder: Path) -> dict[str, Curve]:
    """Return run -> its validation curve; a run without one is left out, with a warning.

    It is the log's, or where the run is gone the one that results.tsv itself holds.

    Args:
        folder: what the names of the runs are relative to: the folder of results.tsv.
    """
    curves: dict[str, Curve] = {}
    missing = []
    # a run has a row for each test set, and one curve, which an older row may lack
    of_rows: dict[str, Optional[Curve]] = {}
    for row in rows:
        of_rows[row["run"]] = of_rows.get(row["run"]) or row["curve"]
    for run, kept in of_rows.items():
        log = folder / run / "train.log"
        curve = read_curve(log) or kept
        if curve:
            curves[run] = curve
        else:
            missing.append(log)
    if missing:
        logger.warning(
            "missing, or without a validation, so that their curves are not drawn: %s",
            ", ".join(first_of(missing, NAMED)),
        )
    return curves


def read_curve(log: Path) -> Curve:
    """Return the validation curve of a log of fairseq-train; empty without log or validation."""
    _, validations = read_log(log)
    return curve_of(validations)


def find_common_loss(rows: Sequence[Row], curves: Mapping[str, Curve]) -> Optional[float]:
    """Return the loss that all runs which did not diverge reached in the end, in bits a token.

    It is the largest of their final validation losses; None if fewer than two runs of the group
    have a curve, or all of them diverged.
    """
    known = [row for row in rows if row["run"] in curves]
    finals = []
    for row in known:
        final = curves[row["run"]][-1][1]
        # an infinite loss would be one that every run has reached
        if not row["diverged"] and isfinite(final):
            finals.append(final)
    if len(known) < 2 or not finals:
        return None
    return max(finals)


def first_update_at(curve: Curve, loss: float) -> Optional[int]:
    """Return the first validated update at which a curve is at ``loss`` or below it, or None."""
    for update, value in curve:
        if value <= loss:
            return update
    return None


def updates_to(loss: float, rows: Iterable[Row], curves: Mapping[str, Curve]) -> dict[str, str]:
    """Return run -> updates to ``loss``, ``never`` or ``no log``.

    Runs that diverged are asked as well: one may have reached the loss before.
    """
    updates: dict[str, str] = {}
    for row in rows:
        run = row["run"]
        if run not in curves:
            updates[run] = NO_LOG
            continue
        update = first_update_at(curves[run], loss)
        updates[run] = NEVER if update is None else str(update)
    return updates


def name_curves(rows: Iterable[Row], curves: Mapping[str, Curve]) -> dict[str, Curve]:
    """Return ``Admin 6-6 seed 1`` -> curve, of the rows whose run has one."""
    named = {}
    for row in rows:
        if row["run"] in curves:
            name = f"{label(row['init_type'])} {row['depth']} seed {row['seed']}"
            named[name] = curves[row["run"]]
    return named


def draw(path: Path, curves: Mapping[str, Curve]) -> None:
    """Draw curves into a PNG file, which appears whole or not at all."""
    # matplotlib takes longer to import than a report without figures takes to write
    from ... import plots

    plots.save_figure(
        path, lambda axis: plots.draw_curves(axis, curves, "validation nll per token (bits)")
    )
