"""Figures of the analyses, from their rows. No torch, no fairseq."""

import math
import statistics
from collections import OrderedDict
from itertools import cycle

from .. import files
from ..errors import AdminError
from ..plots import COLOURS, MaxNLocator, plt

MOVES = {
    "random": "random: W -= 1e-4 sign(N(0, 1))",
    "gradient": "gradient: W -= 1e-6 sign(dLoss/dW)",
}
UNITS = {"weights": "|dLoss/dW| of the site's branch", "output": "|dLoss/d output| of the site"}


def save(prefix, draw, rows, columns, width=4.2, height=3.6):
    """Draw on a grid of axes and write ``PREFIX.png`` and ``PREFIX.pdf``.

    Args:
        prefix: path without ending.
        draw: function of a list of lists of axes.
        rows, columns: size of the grid.
        width, height: inches of one axis.

    Raises:
        AdminError: if they cannot be written.
    """
    figure, axes = plt.subplots(
        rows, columns, figsize=(width * columns, height * rows), squeeze=False
    )
    draw(axes.tolist())
    figure.tight_layout()
    try:
        for ending, metadata in (("png", {"Software": None}), ("pdf", {"CreationDate": None})):
            with files.replacing(f"{prefix}.{ending}") as file:
                figure.savefig(file, format=ending, dpi=90, metadata=metadata)
    except OSError as error:
        raise AdminError(f"--out {prefix}: cannot be written: {error}") from None
    finally:
        plt.close(figure)


def groups(rows, *keys):
    """Return the rows by the values of some keys, in order of appearance."""
    found = OrderedDict()
    for row in rows:
        found.setdefault(tuple(row[key] for key in keys), []).append(row)
    return found


def draw_dependency(axis, rows, title):
    """Draw beta_{i,j} of one model and stack: row i, column j; the embedding is column 0."""
    size = max(row["i"] for row in rows)
    grid = [[math.nan] * (size + 1) for _ in range(size)]
    for row in rows:
        grid[row["i"] - 1][row["j"]] = row["beta"]
    image = axis.imshow(
        grid,
        cmap="viridis",
        vmin=0,
        vmax=1,
        extent=(-0.5, size + 0.5, size + 0.5, 0.5),
        aspect="auto",
    )
    for side in (axis.xaxis, axis.yaxis):
        side.set_major_locator(MaxNLocator(integer=True))
    axis.set_title(title, fontsize=9)
    axis.set_xlabel("j: branch (0: embedding)")
    axis.set_ylabel("i: output")
    if size <= 12:
        for row in rows:
            colour = "black" if row["beta"] > 0.6 else "white"
            number = f"{row['beta']:.2f}".lstrip("0") or "0"
            axis.text(
                row["j"], row["i"], number, ha="center", va="center", fontsize=5.5, color=colour
            )
    return image


def save_dependency(prefix, rows):
    """Heatmaps, a column for every model, a row for every stack."""
    panels = groups(rows, "model", "stack")
    models = list(OrderedDict.fromkeys(model for model, _ in panels))
    stacks = list(OrderedDict.fromkeys(stack for _, stack in panels))

    def draw(axes):
        for row, stack in enumerate(stacks):
            for column, model in enumerate(models):
                axis = axes[row][column]
                if (model, stack) in panels:
                    image = draw_dependency(axis, panels[model, stack], f"{model}, {stack}")
                    axis.figure.colorbar(
                        image, ax=axis, label="beta" if column == len(models) - 1 else None
                    )
                else:
                    axis.axis("off")

    save(prefix, draw, len(stacks), len(models), width=4.2 if len(models) < 4 else 3.2, height=3.4)


def draw_output_change(axis, rows, title):
    """Draw |x_N - x_N*|^2 against the number of sites: mean over seeds, and their range."""
    for colour, ((model,), mine) in zip(cycle(COLOURS), groups(rows, "model").items()):
        by_sites = groups(mine, "sites")
        changes = [[row["output_change"] for row in found] for found in by_sites.values()]
        if not any(value > 0 for values in changes for value in values):
            axis.plot([], [], color=colour, label=f"{model} (0)")
            continue
        sites = [number for (number,) in by_sites]
        axis.plot(
            sites, [statistics.mean(values) for values in changes], ".-", color=colour, label=model
        )
        axis.fill_between(
            sites,
            [min(v) for v in changes],
            [max(v) for v in changes],
            color=colour,
            alpha=0.2,
            lw=0,
        )
    axis.set_xscale("log")
    axis.set_yscale("log")
    axis.grid(alpha=0.3)
    axis.set_xlabel("N, residual sites of the stack")
    axis.xaxis.set_major_formatter("{x:.0f}")
    axis.xaxis.set_minor_formatter("")
    axis.set_ylabel("|x_N - x_N*|^2 a position: mean, range")
    axis.set_title(title, fontsize=9)
    axis.legend(fontsize=7)


def save_output_change(prefix, rows):
    """A column for every way to move the weights, a row for every stack."""
    panels = groups(rows, "stack", "perturbation")
    stacks = list(OrderedDict.fromkeys(stack for stack, _ in panels))
    perturbations = list(OrderedDict.fromkeys(name for _, name in panels))

    def draw(axes):
        for row, stack in enumerate(stacks):
            for column, name in enumerate(perturbations):
                draw_output_change(
                    axes[row][column], panels[stack, name], f"{stack}, {MOVES.get(name, name)}"
                )

    save(prefix, draw, len(stacks), len(perturbations), width=5)


def draw_norms(axis, rows, points, xlabel, ylabel):
    """Draw gradient norms: a colour for every model, solid for the encoder, dashed for the decoder.

    ``points``: function of the rows of one model and stack, to (x, norm) pairs.
    """
    for colour, ((model,), of_model) in zip(cycle(COLOURS), groups(rows, "model").items()):
        for (stack,), mine in groups(of_model, "stack").items():
            x, values = zip(*points(mine))
            style = ".-" if stack == "encoder" else ".--"
            zero = (
                "" if any(value > 0 for value in values) else " (0)"
            )  # 0 has no place on a log axis
            values = [value if value > 0 else math.nan for value in values]
            axis.plot(x, values, style, color=colour, lw=1, label=f"{model}, {stack}{zero}")
    axis.set_yscale("log")
    axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    axis.grid(alpha=0.3)
    axis.set_xlabel(xlabel)
    axis.set_ylabel(ylabel)
    axis.legend(fontsize=6)


def draw_gradients(axis, rows, what):
    """Draw gradient norms against the site's place in its stack."""
    draw_norms(
        axis,
        rows,
        lambda mine: [(i, row[what]) for i, row in enumerate(mine, 1)],
        "residual site, from 1",
        UNITS[what],
    )


def draw_gradients_by_layer(axis, rows):
    """Draw the norm of all branches of a layer against its number."""
    draw_norms(
        axis,
        rows,
        lambda mine: list(
            OrderedDict((row["layer"], row["layer_weights"]) for row in mine).items()
        ),
        "layer, from 0",
        "|dLoss/dW| of the layer's branches",
    )


def save_gradients(prefix, rows):
    """By site: the branch's weights, and the output; by layer: all its branches' weights."""

    def draw(axes):
        for axis, what in zip(axes[0], UNITS):
            draw_gradients(axis, rows, what)
        draw_gradients_by_layer(axes[0][len(UNITS)], rows)

    save(prefix, draw, 1, len(UNITS) + 1, width=4.6)


def draw_output_bars(axis, changes):
    """Draw output changes side by side, from 0. ``changes``: label -> {stack: value}."""
    width = 0.8 / len(changes)
    for number, (colour, (name, by_stack)) in enumerate(zip(COLOURS, changes.items())):
        places = [place + number * width for place in range(len(by_stack))]
        axis.bar(places, by_stack.values(), width, color=colour, label=name)
        axis.set_xticks(range(len(by_stack)), list(by_stack))
    axis.set_ylabel("relative output change")
    axis.legend(fontsize=7)


def draw_largest(axis, rows):
    """Draw the largest magnitude at every site; where one is not finite, a red line."""
    for colour, what in zip(COLOURS, ("branch", "shortcut")):
        for stack, style in (("encoder", ".-"), ("decoder", ".--")):
            points = [
                (i, row[what]) for i, row in enumerate(rows, 1) if row["site"].startswith(stack)
            ]
            axis.plot(*zip(*points), style, color=colour, lw=1, label=f"{what}, {stack}")
    bad = [
        number for number, row in enumerate(rows, 1) if math.isnan(row["branch"] + row["shortcut"])
    ]
    if bad:
        axis.axvline(bad[0], color="red", label="first that is not finite")
    axis.set_yscale("log")
    axis.grid(alpha=0.3)
    axis.set_xlabel("residual site: encoder, then decoder")
    axis.set_ylabel("largest magnitude")
    axis.set_title(rows[0]["model"], fontsize=9)
    axis.legend(fontsize=6)


def save_stability(prefix, report):
    """What a :class:`stability.Report` is based on; magnitudes alone where the model is not finite."""
    panels = groups(report.dependency, "stack")
    drawings = [lambda axis: draw_largest(axis, report.largest)]
    for (stack,), rows in panels.items():
        drawings.append(
            lambda axis, rows=rows, stack=stack: draw_dependency(axis, rows, f"beta, {stack}")
        )
    if report.gradients:
        drawings.append(lambda axis: draw_gradients(axis, report.gradients, "weights"))
        drawings.append(lambda axis: draw_output_bars(axis, report.changes))

    def draw(axes):
        for axis, drawing in zip(axes[0], drawings):
            drawing(axis)

    save(prefix, draw, 1, len(drawings), width=4)


def draw_trace(axis, rows, title):
    """Draw one traced figure against updates: a line for every site, from blue (first) to yellow (last)."""
    sites = groups(rows, "site")
    colours = plt.get_cmap("viridis")
    for number, ((site,), mine) in enumerate(sites.items()):
        values = [row["value"] for row in mine]
        axis.plot(
            [row["update"] for row in mine],
            values,
            color=colours(number / max(len(sites) - 1, 1)),
            lw=0.8,
        )
    axis.set_title(f"{title} (first site dark, last yellow)", fontsize=8)
    axis.set_xlabel("updates")
    axis.grid(alpha=0.3)


def save_trace(prefix, rows):
    """A column for each figure that was traced, a row for each stack."""
    shown = [
        name
        for name in ("omega_mean", "beta", "gradient_norm")
        if any(row["figure"] == name for row in rows)
    ]
    stacks = ("encoder", "decoder")

    def draw(axes):
        for line, stack in zip(axes, stacks):
            for axis, name in zip(line, shown):
                mine = [
                    row for row in rows if row["figure"] == name and row["site"].startswith(stack)
                ]
                draw_trace(axis, mine, f"{name}, {stack}")

    save(prefix, draw, len(stacks), len(shown), height=3)
