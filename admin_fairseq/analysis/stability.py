"""The probe for a model that diverges: what its sites look like.

Measured on one batch, in float64, without an update: which branches the output is made of, how far
it moves when weights do, how gradients spread over layers, where numbers stop being finite, how
large they get. The output change is judged against an Admin model of the same architecture on the
same batch, at its first step: that is a model known to train, so its change is the unit. Both are
relative to the size of the output, which a trained LayerNorm's gamma sets.

What that means, and what to try, is in ``findings``.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping
from typing import Any

from torch import nn

from ..sites import named_sites
from . import dependency, findings, gradients, output_change, probe
from .findings import LOWER_RATE, Report

_DIRECTIONS = 8  # a single random one is off by a factor of two


def examine(
    model: nn.Module,
    name: str,
    build_admin: Callable[[], nn.Module],
    sample: Mapping[str, Any],
    criterion: Any,
    dropout: bool = False,
    seed: int = 1,
) -> Report:
    """Examine a model.

    Args:
        model: in float64.
        name: what to call it.
        build_admin: function that builds an Admin model of the same architecture, at its first
            step.
        sample: a fairseq batch.
        criterion: fairseq's.
        dropout: run in training mode, with the masks of ``seed``.
        seed: of masks and directions.
    """
    report = Report(other_init=advise_init(model))
    found = probe.run_forward(model, sample, dropout, seed)
    for site, (branch, shortcut) in found.largest.items():
        report.largest.append({"model": name, "site": site, "branch": branch, "shortcut": shortcut})
    # with NaN in it nothing else means anything
    if not findings.check_numbers(report, model, found):
        return report
    rows = dependency.decompose(model, found)
    for stack, stack_rows in rows.items():
        report.beta[stack] = [row.beta for row in stack_rows]
    loss, norms = gradients.gradient_norms(model, sample, criterion, dropout, seed)
    report.gradients = [{"model": name, **row} for row in norms]
    report.facts["loss, nats a token"] = f"{loss:.3f}"
    for label, one in ((name, model), ("Admin", build_admin())):
        report.changes[label] = _mean_output_change(one, sample, criterion, dropout, seed)
    findings.check_output_change(report, name)
    findings.check_dependency(report, rows)
    findings.check_gradients(report)
    findings.check_omegas(report, model)
    return report


def advise_init(model: Any) -> str:
    """Return which init type to try, in words.

    It differs for a model that has one already, and for one that was trained.
    """
    for site in named_sites(model).values():
        # omega first: it is a vector, and != has no one answer for it
        if site.omega is not None or site.shortcut_scale != 1.0:
            return LOWER_RATE
    anew = "training anew (weights do not fit another init type) with " if model.restored else ""
    return f"{anew}--init-type adaptive-auto (Admin), or deepnet"


def _mean_output_change(
    model: nn.Module, sample: Mapping[str, Any], criterion: Any, dropout: bool, seed: int
) -> dict[str, float]:
    """Return ``{stack: change}``, relative to the output's size, over several random directions."""
    seeds = range(seed, seed + _DIRECTIONS)
    changes = output_change.output_changes(
        model, sample, criterion, "random", seeds, dropout, relative=True
    )
    means = {}
    for stack in changes[0]:
        means[stack] = statistics.mean(change[stack] for change in changes)
    return means
