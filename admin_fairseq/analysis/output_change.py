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

from ..errors import AdminError
from ..profile.measure import positions_that_count
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
    (changes,) = output_changes(model, sample, criterion, perturbation, [seed], dropout)
    return changes


def output_changes(model, sample, criterion, perturbation, seeds, dropout=False, relative=False):
    """Measure :func:`output_change` for several directions; the masks of dropout are those of the first seed.

    Args:
        relative: divide by the mean squared length of the unmoved output: what is left does not depend on the
            size of the last LayerNorm's gamma.

    Returns:
        a list with ``{stack: change}`` for every seed.
    """
    before = Outputs(model, sample, dropout, seeds[0])
    sites = probe.sites_of(model)
    results = []
    for seed in seeds:
        if perturbation == "gradient":
            directions = gradient_signs(model, sample, criterion, sites, dropout, seed)
        else:
            directions = random_signs(sites, seed)
        changes = OrderedDict()
        for stack in sites:
            with moved(directions[stack], STEPS[perturbation]):
                after = before.again(stack)
            size = squared_length(before[stack]) if relative else 1.0
            changes[stack] = squared_length(after - before[stack]) / size
        results.append(changes)
    return results


def squared_length(x):
    """Return the mean over positions of the squared length over channels of x, P x C."""
    return float(x.pow(2).sum(-1).mean())


class Outputs:
    """The last outputs of both stacks, P x C, and the means to run a stack again.

    The decoder runs over the encoder's output as it was at first.

    Raises:
        AdminError: if they are not finite.
    """

    def __init__(self, model, sample, dropout, seed):
        self.model, self.net_input, self.dropout, self.seed = (
            model,
            sample["net_input"],
            dropout,
            seed,
        )
        self.keep = positions_that_count(model, sample)
        with self._mode():
            self.encoder_out = self._encode()
        self.first = {stack: self.again(stack) for stack in ("encoder", "decoder")}
        for stack, x in self.first.items():
            if not torch.isfinite(x).all():
                raise AdminError(
                    f"output change: the {stack}'s output is not finite; 'admin-fairseq analyze stability' says more"
                )

    def __getitem__(self, stack):
        return self.first[stack]

    def again(self, stack):
        """Run a stack with the weights as they are now, and the same masks as ever."""
        with self._mode():
            if stack == "encoder":
                x = self._encode()["encoder_out"][0]
            else:
                tokens, lengths = (
                    self.net_input["prev_output_tokens"],
                    self.net_input["src_lengths"],
                )
                features, _ = self.model.decoder(
                    tokens, encoder_out=self.encoder_out, features_only=True, src_lengths=lengths
                )
                x = features.transpose(0, 1)
        return probe.select(self.keep, stack, x)

    def _encode(self):
        return self.model.encoder(
            self.net_input["src_tokens"], src_lengths=self.net_input["src_lengths"]
        )

    @contextlib.contextmanager
    def _mode(self):
        with torch.no_grad(), probe.mode(self.model, self.dropout, self.seed):
            yield


def random_signs(sites, seed):
    """Return ``{stack: [(weight, random signs)]}``, drawn on the CPU: the same on every device."""
    generator = torch.Generator().manual_seed(seed)
    return {
        stack: [
            (weight, torch.randn(weight.shape, generator=generator).sign().to(weight))
            for site in of_stack
            for weight in site.matrices
        ]
        for stack, of_stack in sites.items()
    }


def gradient_signs(model, sample, criterion, sites, dropout, seed):
    """Return ``{stack: [(weight, signs of its gradient)]}``."""
    with gradients.backward(model, sample, criterion, dropout, seed):
        return {
            stack: [(weight, weight.grad.sign()) for site in of_stack for weight in site.matrices]
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
    return OrderedDict(
        [
            ("O(N)", least_squares(numbers, changes)),
            ("O(log N)", least_squares(logarithms, changes)),
        ]
    )


def least_squares(x, y):
    """Return (intercept, slope, R^2) of y over x."""
    if len(set(x)) < 2:
        return y[0], 0.0, float("nan")
    slope, intercept = statistics.linear_regression(x, y)
    residual = sum((b - intercept - slope * a) ** 2 for a, b in zip(x, y))
    total = sum((b - statistics.mean(y)) ** 2 for b in y)
    return intercept, slope, 1 - residual / total if total else float("nan")


def points(rows):
    """Return the spread over seeds: one row for every (model, stack, perturbation, sites)."""
    groups = OrderedDict()
    for row in rows:
        key = (row["model"], row["stack"], row["perturbation"], row["sites"])
        groups.setdefault(key, []).append(row["output_change"])
    return [
        {
            **dict(zip(("model", "stack", "perturbation", "sites"), key)),
            "seeds": len(values),
            "mean": statistics.mean(values),
            "sd": statistics.stdev(values) if len(values) > 1 else 0.0,
            "smallest": min(values),
            "largest": max(values),
        }
        for key, values in groups.items()
    ]


def fits(rows):
    """Fit both laws to the means of every (model, stack, perturbation) with three depths or more."""
    groups = OrderedDict()
    for point in points(rows):
        key = (point["model"], point["stack"], point["perturbation"])
        groups.setdefault(key, OrderedDict())[point["sites"]] = point["mean"]
    found = []
    for key, by_sites in groups.items():
        if len(by_sites) < 3:
            continue
        laws = fit(list(by_sites), list(by_sites.values()))
        row = dict(zip(("model", "stack", "perturbation"), key))
        for law, (intercept, slope, r_squared) in laws.items():
            row.update(
                {f"{law} intercept": intercept, f"{law} slope": slope, f"{law} R^2": r_squared}
            )
        found.append(row)
    return found
