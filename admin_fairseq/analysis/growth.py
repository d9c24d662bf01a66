"""How the output change grows with depth: both laws of the theory, fitted. No torch, no fairseq.

Liu et al. (EMNLP 2020, section 4.2, theorem 2): |x_N - x_N*|^2 is O(N) in an N-site Post-LN
Transformer and O(log N) in Pre-LN; Admin brings Post-LN to O(log N).
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

Rows = Sequence[Mapping[str, Any]]
Fit = tuple[float, float, float]


def fit(numbers: Sequence[float], changes: Sequence[float]) -> dict[str, Fit]:
    """Fit both laws of the theory to mean changes, by least squares.

    Args:
        numbers: N, the number of sites, of each point.
        changes: |x_N - x_N*|^2 of each point.

    Returns:
        ``{law: (intercept, slope, R^2)}`` for ``O(N)``, a + b N, and ``O(log N)``, a + b ln N. R^2
        is NaN where all changes are equal, as for ReZero, whose output does not move at all.
    """
    logarithms = [math.log(number) for number in numbers]
    return {
        "O(N)": _least_squares(numbers, changes),
        "O(log N)": _least_squares(logarithms, changes),
    }


def _least_squares(x: Sequence[float], y: Sequence[float]) -> Fit:
    """Return (intercept, slope, R^2) of y over x."""
    if len(set(x)) < 2:
        return y[0], 0.0, math.nan
    mean_x, mean_y = math.fsum(x) / len(x), math.fsum(y) / len(y)
    products = [(a - mean_x) * (b - mean_y) for a, b in zip(x, y)]
    squares = [(a - mean_x) ** 2 for a in x]
    slope = math.fsum(products) / math.fsum(squares)
    intercept = mean_y - slope * mean_x
    residual = sum((b - intercept - slope * a) ** 2 for a, b in zip(x, y))
    total = sum((b - mean_y) ** 2 for b in y)
    r_squared = 1 - residual / total if total else math.nan
    return intercept, slope, r_squared


def points(rows: Rows) -> list[dict[str, Any]]:
    """Return the spread over seeds: one row for every (model, stack, perturbation, sites)."""
    names = ("model", "stack", "perturbation", "sites")
    changes: dict[tuple[Any, ...], list[float]] = {}
    for row in rows:
        key = tuple(row[name] for name in names)
        changes.setdefault(key, []).append(row["output_change"])
    found = []
    for key, values in changes.items():
        point = dict(zip(names, key))
        point["seeds"] = len(values)
        point["mean"] = statistics.mean(values)
        point["sd"] = statistics.stdev(values) if len(values) > 1 else 0.0
        point["smallest"], point["largest"] = min(values), max(values)
        found.append(point)
    return found


def fits(rows: Rows) -> list[dict[str, Any]]:
    """Fit both laws to the means of every (model, stack, perturbation) with 3 depths or more."""
    names = ("model", "stack", "perturbation")
    means: dict[tuple[Any, ...], dict[int, float]] = {}
    for point in points(rows):
        key = tuple(point[name] for name in names)
        means.setdefault(key, {})[point["sites"]] = point["mean"]
    found = []
    for key, by_sites in means.items():
        # through two points goes every law of two parameters
        if len(by_sites) < 3:
            continue
        row = dict(zip(names, key))
        for law, fitted in fit(list(by_sites), list(by_sites.values())).items():
            for name, value in zip(("intercept", "slope", "R^2"), fitted):
                row[f"{law} {name}"] = value
        found.append(row)
    return found
