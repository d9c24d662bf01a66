"""Which branches an output is made of: the layer dependency beta.

Liu et al. (EMNLP 2020, section 4.1) write the normalised output of site i as a sum over what the
branches put into the residual stream, x_i = sum_j beta_{i,j} a_j, with j = 0 the embedding. Here
the sum is carried through the model exactly: a shortcut scales every component that is in it, and a
LayerNorm subtracts each component's own mean over the channels, divides by the standard deviation
of the whole and multiplies by gamma. (To multiply by gamma and omega alone leaves out the division,
and with it what makes Post-LN depend on its last branches.) So the components add up to x_i, less
the LayerNorms' shifts, which are carried beside them.

beta_{i,j} is the standard deviation of component j over all positions and channels, in units of that
of their sum. Where no LayerNorm follows the site (Pre-LN, ReZero), the sum is normalised over the
channels first, as the LayerNorm before the next branch does. The squares of a row add up to 1 where
components are uncorrelated, which they nearly are at the start.
"""

import torch

from ..errors import AdminError
from . import probe


class Row:
    """What the output of one site is made of.

    Attributes:
        site: its :class:`probe.Site`.
        number: i, from 1, within the stack.
        beta: i + 1 floats; the first is the embedding's.
        error: how far components and shift are from the output that the model computed, relative
            to its standard deviation (the largest element).
    """

    def __init__(self, site, number, beta, error):
        self.site, self.number, self.beta, self.error = site, number, beta, error

    @property
    def sum_of_squares(self):
        return sum(value**2 for value in self.beta)


def dependency(model, sample, dropout=False, seed=1):
    """Measure beta of both stacks in one forward pass.

    Args:
        model: in float64.
        sample: a fairseq batch; padding does not count, and of long batches 1,024 positions do.
        dropout, seed: as in :func:`probe.run`.

    Returns:
        ``{stack: [Row]}``, a row for every site.

    Raises:
        AdminError: if something is not finite, or components do not add up to the output.
    """
    return decompose(model, probe.run(model, sample, dropout, seed))


def decompose(model, found):
    """Measure beta from a :class:`probe.Pass` of the model; returns and raises what :func:`dependency` does."""
    probe.check_finite(found, "dependency")
    rows = {}
    for stack, sites in probe.sites_of(model).items():
        if sites:
            rows[stack] = stack_rows(sites, found.inputs, found.sums[stack])
    return rows


@torch.no_grad()
def stack_rows(sites, inputs, last_output):
    """Carry the components through the sites of a stack.

    Args:
        sites: in forward order.
        inputs: site name -> (branch, shortcut), P x C.
        last_output: what the last site is to add up to, P x C.
    """
    shortcut = inputs[sites[0].name][1]
    parts, shift = shortcut[None].double(), torch.zeros_like(shortcut, dtype=torch.float64)
    outputs = [inputs[site.name][1] for site in sites[1:]] + [last_output]
    rows = []
    for number, (site, output) in enumerate(zip(sites, outputs), 1):
        branch = inputs[site.name][0].double()
        scale = site.residual.shortcut_scale
        parts = torch.cat(
            [parts * scale, (branch * site.residual.branch_scale)[None]]
        )  # (i + 1) x P x C
        shift = shift * scale
        total = parts.sum(0) + shift
        if site.norm_after is None:
            normalised = centre(parts) / channel_std(total, 0.0)
        else:
            norm = site.norm_after
            std = channel_std(total, norm.eps)
            parts = centre(parts) / std * norm.weight
            shift = centre(shift) / std * norm.weight + norm.bias
            normalised, total = parts, parts.sum(0) + shift
        unit = normalised.sum(0).std(unbiased=False)
        beta = (normalised.flatten(1).std(1, unbiased=False) / unit).tolist()
        error = float((total - output.double()).abs().max() / output.double().std(unbiased=False))
        if not error < 1e-4:  # float64 leaves 1e-12; half-precision layers would leave 1e-3
            raise AdminError(
                f"dependency: at {site.name} the components miss the output by {error:.1e}: something between "
                "the sites is neither a shortcut nor a LayerNorm, and this model cannot be decomposed"
            )
        rows.append(Row(site, number, beta, error))
    return rows


def centre(x):
    """Subtract the mean over the channels, as a LayerNorm does."""
    return x - x.mean(-1, keepdim=True)


def channel_std(x, eps):
    """Return the standard deviation over the channels, ... x 1."""
    return (x.var(-1, unbiased=False, keepdim=True) + eps).sqrt()


def table(name, rows):
    """Return the tidy rows of one model: one for every beta."""
    return [
        {
            "model": name,
            "stack": stack,
            "i": row.number,
            "site": row.site.name,
            "j": j,
            "branch": "embedding" if j == 0 else stack_rows[j - 1].site.name,
            "beta": value,
            "sum_of_squares": row.sum_of_squares,
            "reconstruction_error": row.error,
        }
        for stack, stack_rows in rows.items()
        for row in stack_rows
        for j, value in enumerate(row.beta)
    ]
