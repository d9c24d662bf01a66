"""Which branches an output is made of: the layer dependency beta.

Liu et al. (EMNLP 2020, section 4.1) write the normalised output of site i as a sum over what the
branches put into the residual stream, x_i = sum_j beta_{i,j} a_j, with j = 0 the embedding. Here
the sum is carried through the model exactly: a shortcut scales every component that is in it, and a
LayerNorm subtracts each component's own mean over the channels, divides by the standard deviation
of the whole and multiplies by gamma. (To multiply by gamma and omega alone leaves out the division,
and with it what makes Post-LN depend on its last branches.) So the components add up to x_i, less
the LayerNorms' shifts, which are carried beside them.

beta_{i,j} is the standard deviation of component j over all positions and channels, in units of
that of their sum. Where no LayerNorm follows the site (Pre-LN, ReZero), the sum is normalised over
the channels first, as the LayerNorm before the next branch does. The squares of a row add up to 1
where components are uncorrelated, which they nearly are at the start.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import AdminError
from . import probe

_LARGEST_ERROR = 1e-4  # float64 leaves 1e-12; half-precision layers would leave 1e-3


@dataclass
class Row:
    """What the output of one site is made of.

    Attributes:
        site: the site.
        number: i, from 1, within the stack.
        beta: i + 1 floats; the first is the embedding's.
        error: how far components and shift are from the output that the model computed, relative
            to its standard deviation (the largest element).
    """

    site: probe.Site
    number: int
    beta: list[float]
    error: float

    @property
    def sum_of_squares(self) -> float:
        """The sum of beta^2, which is 1 where components are uncorrelated."""
        return sum(value**2 for value in self.beta)


def dependency(
    model: nn.Module, sample: Mapping[str, Any], dropout: bool = False, seed: int = 1
) -> dict[str, list[Row]]:
    """Measure beta of both stacks in one forward pass.

    Args:
        model: in float64.
        sample: a fairseq batch; padding does not count, and of long batches 1,024 positions do.
        dropout: run in training mode, with the masks of ``seed``.
        seed: of the masks.

    Returns:
        ``{stack: rows}``, a row for every site.

    Raises:
        AdminError: if something is not finite, or components do not add up to the output.
    """
    return decompose(model, probe.run_forward(model, sample, dropout, seed))


def decompose(model: nn.Module, found: probe.Pass) -> dict[str, list[Row]]:
    """Measure beta from a forward pass of the model.

    Returns and raises what :func:`dependency` does.
    """
    probe.check_finite(found, "dependency")
    rows = {}
    for stack, sites in probe.sites_of(model).items():
        if sites:
            rows[stack] = _decompose_stack(sites, found.inputs, found.sums[stack])
    return rows


@torch.no_grad()
def _decompose_stack(
    sites: Sequence[probe.Site],
    inputs: Mapping[str, tuple[Tensor, Tensor]],
    last_output: Tensor,
) -> list[Row]:
    """Carry the components through the sites of a stack.

    Args:
        sites: in forward order.
        inputs: site name -> (branch, shortcut), P x C.
        last_output: what the last site is to add up to, P x C.
    """
    # the first shortcut: positions, and the embedding's LayerNorm and dropout, are in it
    embedding = inputs[sites[0].name][1].double()
    parts, shift = embedding[None], torch.zeros_like(embedding)
    # what a site puts out is the shortcut of the next one
    outputs = [inputs[site.name][1] for site in sites[1:]] + [last_output]
    rows = []
    for number, (site, output) in enumerate(zip(sites, outputs), 1):
        branch = inputs[site.name][0].double()
        scaled_branch = branch * site.residual.branch_scale
        scale = site.residual.shortcut_scale
        # the newest last, so that a row's last beta is the diagonal
        parts = torch.cat([parts * scale, scaled_branch[None]])  # (i + 1) x P x C
        shift = shift * scale
        parts, shift, normalised = _normalise(parts, shift, site.norm_after)
        error = _miss(parts.sum(0) + shift, output.double())
        # not >=: NaN is an error, too
        if not error < _LARGEST_ERROR:
            raise AdminError(
                f"dependency: at {site.name} the components miss the output by {error:.1e}: "
                "something between the sites is neither a shortcut nor a LayerNorm, and this model "
                "cannot be decomposed"
            )
        unit = normalised.sum(0).std(unbiased=False)
        beta = normalised.flatten(1).std(1, unbiased=False) / unit
        rows.append(Row(site, number, beta.tolist(), error))
    return rows


def _normalise(
    parts: Tensor, shift: Tensor, norm_after: Any | None
) -> tuple[Tensor, Tensor, Tensor]:
    """Carry components and shift through the LayerNorm after a site, if there is one.

    Args:
        parts: the components of the sum, (i + 1) x P x C.
        shift: what else is in the sum, P x C.
        norm_after: a LayerNorm or None.

    Returns:
        (components, shift) as they go on, and the components normalised over the channels.
    """
    total = parts.sum(0) + shift
    if norm_after is None:
        # without an eps: this normalisation is for the measure alone, and what goes on stays
        return parts, shift, _centre(parts) / _channel_std(total, 0.0)
    std = _channel_std(total, norm_after.eps)
    parts = _centre(parts) / std * norm_after.weight
    shift = _centre(shift) / std * norm_after.weight + norm_after.bias
    return parts, shift, parts


def _miss(x: Tensor, output: Tensor) -> float:
    """Return the largest difference of x from the output, in the output's standard deviations."""
    return float((x - output).abs().max() / output.std(unbiased=False))


def _centre(x: Tensor) -> Tensor:
    """Subtract the mean over the channels, as a LayerNorm does."""
    return x - x.mean(-1, keepdim=True)


def _channel_std(x: Tensor, eps: float) -> Tensor:
    """Return the standard deviation over the channels: ... x C -> ... x 1."""
    return (x.var(-1, unbiased=False, keepdim=True) + eps).sqrt()


def tidy_rows(name: str, rows: Mapping[str, Sequence[Row]]) -> list[dict[str, Any]]:
    """Return the rows of one model for tables and figures: one for every beta.

    Args:
        name: of the model.
        rows: as :func:`dependency` returns them.
    """
    tidy = []
    for stack, stack_rows in rows.items():
        branches = ["embedding"] + [row.site.name for row in stack_rows]
        for row in stack_rows:
            for j, beta in enumerate(row.beta):
                tidy.append(
                    {
                        "model": name,
                        "stack": stack,
                        "i": row.number,
                        "site": row.site.name,
                        "j": j,
                        "branch": branches[j],
                        "beta": beta,
                        "sum_of_squares": row.sum_of_squares,
                        "reconstruction_error": row.error,
                    }
                )
    return tidy
