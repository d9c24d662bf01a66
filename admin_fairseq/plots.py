"""Figures, drawn with matplotlib: omega against depth, and training curves. No torch, no fairseq."""

import logging
from itertools import cycle

# importing fairseq turns on everybody's debugging
logging.getLogger("matplotlib").setLevel(logging.WARNING)

import matplotlib  # noqa: E402

matplotlib.use("Agg")
from matplotlib import pyplot as plt  # noqa: E402
from matplotlib.ticker import MaxNLocator  # noqa: E402,F401

# the okabe-ito palette: distinguishable for colour-blind readers
COLOURS = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#8A8A00"]


def draw_omega(axis, stacks):
    """Draw omega against depth. ``stacks``: name -> list of omegas in forward order."""
    for colour, (name, omegas) in zip(cycle(COLOURS), stacks.items()):
        axis.plot(range(1, len(omegas) + 1), omegas, ".-", color=colour, label=name)
    axis.set_xlabel("residual site, in forward order")
    axis.set_ylabel("omega at the start")
    axis.set_ylim(bottom=0)
    axis.legend()


def draw_curves(axis, curves, ylabel):
    """Draw training curves. ``curves``: name -> list of (updates, value)."""
    for colour, (name, points) in zip(cycle(COLOURS), curves.items()):
        if points:
            axis.plot(*zip(*points), ".-", color=colour, label=name)
    axis.set_xlabel("updates")
    axis.set_ylabel(ylabel)
    axis.legend(fontsize=8, framealpha=0.6)


def save_figure(path, *drawings):
    """Draw side by side and write the figure. ``drawings``: functions of an axis."""
    figure, axes = plt.subplots(1, len(drawings), figsize=(5 * len(drawings), 3.6), squeeze=False)
    for axis, draw in zip(axes[0], drawings):
        axis.grid(alpha=0.3)
        draw(axis)
    figure.tight_layout()
    figure.savefig(path, dpi=120)
    plt.close(figure)
