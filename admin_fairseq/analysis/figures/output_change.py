"""How far outputs move against depth, and which law of the theory that follows.

Each stack has two rows of panels. The first shows the changes as they are, on logarithmic axes. The
second divides each model's by its largest, over a logarithmic N: O(log N) is a straight line
there, and O(N) bends upwards. The better fit of both is drawn, and R^2 of both stands below.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ... import plots
from .grid import Grid, Row, distinct, draw_grid, group, model_label, set_title

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

CHANGE = r"$|\Delta x_N|^2$"
MOVES = {
    "random": r"random: $W \leftarrow W - 10^{-4}\,\mathrm{sign}(\mathcal{N}(0, 1))$",
    "gradient": r"gradient: $W \leftarrow W - 10^{-6}\,\mathrm{sign}(\partial L/\partial W)$",
}
# law, as the summary names it -> its look, and how it is typeset
LAWS = {"O(N)": ("-", "$O(N)$"), "O(log N)": ("--", r"$O(\log N)$")}
_POINTS_OF_A_FIT = 100


def _looks(models: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Return model -> how its points look, the same in all panels."""
    looks = {}
    for model, style in zip(models, plots.line_styles()):
        looks[model] = {"color": style["color"], "marker": style["marker"], "markersize": 3.5}
    return looks


def _changes_by_sites(rows: Sequence[Row]) -> dict[int, list[float]]:
    """Return N -> the changes of all seeds, of the rows of one model."""
    changes: dict[int, list[float]] = {}
    for row in rows:
        changes.setdefault(row["sites"], []).append(row["output_change"])
    return changes


def draw_changes(axis: Axes, rows: Sequence[Row], looks: Mapping[str, Mapping[str, Any]]) -> None:
    """Draw |x_N - x_N*|^2 against the number of sites: mean over seeds, and their range."""
    for (model,), of_model in group(rows, "model").items():
        changes = _changes_by_sites(of_model)
        sites = list(changes)
        means = [statistics.mean(values) for values in changes.values()]
        look = looks[model]
        if not any(mean > 0 for mean in means):  # 0 has no place on a logarithmic axis
            axis.plot([], [], linewidth=1.2, label=f"{model_label(model)} (0)", **look)
            continue
        axis.plot(sites, means, linewidth=1.2, label=model_label(model), zorder=3, **look)
        smallest = [min(values) for values in changes.values()]
        largest = [max(values) for values in changes.values()]
        axis.fill_between(sites, smallest, largest, color=look["color"], alpha=0.18, linewidth=0)
    axis.set_yscale("log")
    axis.set_ylabel(f"{CHANGE}: mean, range")
    _set_depth_axis(axis)


def _draw_laws(
    axis: Axes,
    rows: Sequence[Row],
    fits: Sequence[Row],
    looks: Mapping[str, Mapping[str, Any]],
) -> None:
    """Draw mean changes in units of each model's largest, and the law that fits them better.

    Args:
        axis: the panel.
        rows: of one stack and perturbation.
        fits: the same, as the summary of ``analyze output-change`` has them.
        looks: model -> how its points look.
    """
    fit_of = {fit["model"]: fit for fit in fits}
    for (model,), of_model in group(rows, "model").items():
        # too few depths, or an output that never moves: neither law fits
        if model not in fit_of or math.isnan(fit_of[model]["O(N) R^2"]):
            continue
        fit = fit_of[model]
        means = {n: statistics.mean(values) for n, values in _changes_by_sites(of_model).items()}
        unit = max(means.values())
        heights = [mean / unit for mean in means.values()]
        axis.plot(list(means), heights, linestyle="none", **looks[model])
        law = _better_law(fit)
        numbers, values = zip(*_fitted(fit, law, min(means), max(means)))
        axis.plot(
            numbers,
            [value / unit for value in values],
            linestyle=LAWS[law][0],
            linewidth=1.2,
            color=looks[model]["color"],
            label=_both_laws(fit),
        )
    axis.set_ylim(-0.1, 1.15)
    axis.set_ylabel(f"{CHANGE} / its largest")
    _set_depth_axis(axis)
    plots.legend_below(axis, title="$R^2$ of both laws; the better one is drawn", fontsize=6.5)


def _better_law(fit: Row) -> str:
    return max(LAWS, key=lambda law: float(fit[f"{law} R^2"]))


def _fitted(fit: Row, law: str, first: int, last: int) -> Iterator[tuple[float, float]]:
    """Yield (N, the law's value) from the first to the last N, evenly on a logarithmic axis."""
    intercept, slope = fit[f"{law} intercept"], fit[f"{law} slope"]
    for step in range(_POINTS_OF_A_FIT + 1):
        n = first * (last / first) ** (step / _POINTS_OF_A_FIT)
        x = n if law == "O(N)" else math.log(n)
        yield n, intercept + slope * x


def _both_laws(fit: Row) -> str:
    """Return the legend's line of a model: R^2 of both laws, the better one in bold."""
    better = _better_law(fit)
    parts = []
    for law, (_, name) in LAWS.items():
        r_squared = f"{fit[f'{law} R^2']:.3f}"
        if law == better:
            r_squared = rf"$\mathbf{{{r_squared}}}$"
        parts.append(f"{name} {r_squared}")
    return f"{model_label(fit['model'])}: {', '.join(parts)}"


def _set_depth_axis(axis: Axes) -> None:
    axis.set_xscale("log")
    axis.grid(alpha=0.3)
    axis.set_xlabel("$N$, residual sites of the stack")
    axis.xaxis.set_major_formatter("{x:.0f}")
    axis.xaxis.set_minor_formatter("")


def output_change_figure(rows: Sequence[Row], fits: Sequence[Row] = ()) -> Figure:
    """Draw a column for every way to move the weights, and two rows for every stack.

    Args:
        rows: with ``model``, ``stack``, ``sites``, ``perturbation``, ``seed``, ``output_change``.
        fits: of both laws; without them there is one row a stack.
    """
    panels, fit_panels = group(rows, "stack", "perturbation"), group(fits, "stack", "perturbation")
    stacks, perturbations = distinct(rows, "stack"), distinct(rows, "perturbation")
    looks = _looks(distinct(rows, "model"))
    lines_of_a_stack = 2 if fits else 1

    def draw(figure: Figure, axes: Grid) -> None:
        for number, stack in enumerate(stacks):
            for column, perturbation in enumerate(perturbations):
                mine = panels[stack, perturbation]
                axis = axes[number * lines_of_a_stack][column]
                draw_changes(axis, mine, looks)
                set_title(axis, f"{stack}, {MOVES.get(perturbation, perturbation)}")
                if fits:
                    # the panel below has the same axis
                    axis.tick_params(labelbottom=False)
                    axis.set_xlabel("")
                    axis = axes[number * lines_of_a_stack + 1][column]
                    _draw_laws(axis, mine, fit_panels.get((stack, perturbation), ()), looks)
        for line in axes:
            for axis in line[1:]:
                axis.set_ylabel("")
        plots.shared_legend(figure, axes[0][0])

    count = lines_of_a_stack * len(stacks)
    return draw_grid(draw, count, len(perturbations), width=4.6, height=2.5)
