"""How far a model's last output moves when its weights do, and how that grows with depth.

Liu et al. (EMNLP 2020, section 4.2, theorem 2): when every branch's weights move a little, the
output x_N of an N-site Post-LN Transformer moves by |x_N - x_N*|^2 = O(N), that of Pre-LN by
O(log N); Admin brings Post-LN to O(log N). Two ways to move the weights:

    random    W -= 1e-4 sign(N(0, 1))
    gradient  W -= 1e-6 sign(dLoss/dW)

W are the weight matrices of the branches. Biases, LayerNorms, omegas and embeddings are left alone.
The change is the squared length over the channels, averaged over real positions. Encoder and decoder
move one at a time: the decoder's change is of its own weights, over an unmoved encoder.
"""

import contextlib
import math
import statistics
from collections import OrderedDict

import torch

from . import gradients, probe

STEPS = OrderedDict([("random", 1e-4), ("gradient", 1e-6)])


def output_change(model, sample, criterion, perturbation, dropout=False, seed=1):
    """Measure how far each stack's last output moves when its branches' weights do.

    Args:
        model: in float64: the changes are as small as 1e-10 of the outputs.
        sample: a fairseq batch.
        criterion: fairseq's, for the gradient.
        perturbation: ``random`` or ``gradient``.
        dropout: use the masks of ``seed``, the same ones before and after.
        seed: of the random directions.

    Returns:
        ``{stack: mean over positions of |x_N - x_N*|^2}``. The model is left as it was.
    """
    before = probe.run(model, sample, dropout, seed, with_inputs=False)
    probe.check_finite(before, "output change")
    sites = probe.sites_of(model)
    if perturbation == "gradient":
        directions = gradient_signs(model, sample, criterion, sites, dropout, seed)
    else:
        directions = random_signs(sites, seed)
    changes = OrderedDict()
    for stack in sites:
        with moved(directions[stack], STEPS[perturbation]):
            after = probe.run(model, sample, dropout, seed, with_inputs=False)
        difference = after.outputs[stack] - before.outputs[stack]
        changes[stack] = float(difference.pow(2).sum(-1).mean())
    return changes


def random_signs(sites, seed):
    """Return ``{stack: [(weight, random signs)]}``, drawn on the CPU: the same on every device."""
    generator = torch.Generator().manual_seed(seed)
    return {
        stack: [
            (weight, torch.randn(weight.shape, generator=generator).sign().to(weight))
            for site in of_stack
            for weight in site.matrices()
        ]
        for stack, of_stack in sites.items()
    }


def gradient_signs(model, sample, criterion, sites, dropout, seed):
    """Return ``{stack: [(weight, signs of its gradient)]}``."""
    with gradients.backward(model, sample, criterion, dropout, seed):
        return {
            stack: [(weight, weight.grad.sign()) for site in of_stack for weight in site.matrices()]
            for stack, of_stack in sites.items()
        }


@contextlib.contextmanager
def moved(directions, step):
    """Take ``step`` times the direction from every weight; put the same bits back afterwards."""
    saved = [weight.detach().clone() for weight, _ in directions]
    with torch.no_grad():
        for weight, direction in directions:
            weight.sub_(direction, alpha=step)
        try:
            yield
        finally:
            for (weight, _), before in zip(directions, saved):
                weight.copy_(before)


def fit(numbers, changes):
    """Fit both laws of the theory to mean changes, by least squares.

    Args:
        numbers: N, the number of sites, of each point.
        changes: |x_N - x_N*|^2 of each point.

    Returns:
        ``{law: (intercept, slope, R^2)}`` for ``O(N)``, a + b N, and ``O(log N)``, a + b ln N. R^2 is nan
        where all changes are equal, as for ReZero, whose output does not move at all.
    """
    logarithms = [math.log(n) for n in numbers]
    return OrderedDict([("O(N)", least_squares(numbers, changes)), ("O(log N)", least_squares(logarithms, changes))])


def least_squares(x, y):
    """Return (intercept, slope, R^2) of y over x."""
    if len(set(x)) < 2:
        return y[0], 0.0, float("nan")
    slope, intercept = statistics.linear_regression(x, y)
    residual = sum((b - intercept - slope * a) ** 2 for a, b in zip(x, y))
    total = sum((b - statistics.mean(y)) ** 2 for b in y)
    return intercept, slope, 1 - residual / total if total else float("nan")


def fits(rows):
    """Fit both laws to the means of every (model, stack, perturbation) with three depths or more."""
    groups = OrderedDict()
    for row in rows:
        key = (row["model"], row["stack"], row["perturbation"])
        groups.setdefault(key, OrderedDict()).setdefault(row["sites"], []).append(row["output_change"])
    found = []
    for key, by_sites in groups.items():
        if len(by_sites) < 3:
            continue
        laws = fit(list(by_sites), [statistics.mean(values) for values in by_sites.values()])
        row = dict(zip(("model", "stack", "perturbation"), key))
        for law, (intercept, slope, r_squared) in laws.items():
            row.update({f"{law} intercept": intercept, f"{law} slope": slope, f"{law} R^2": r_squared})
        found.append(row)
    return found
