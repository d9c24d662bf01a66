"""Gradient norms by residual site and by layer, at one step.

Two norms for each site: of the gradient with respect to the weights of its branch (what an update
of plain SGD would be), and with respect to the sum that it puts out (how much of the loss's signal
gets there: Liu et al., EMNLP 2020, section 3, ask whether it vanishes). The loss is the
criterion's, divided by its sample size, as fairseq's trainer does.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import torch
from fairseq.criterions.adaptive_loss import AdaptiveLoss
from torch import Tensor, nn

from ..errors import AdminError
from . import probe

Row = dict[str, Any]


@contextlib.contextmanager
def backward(
    model: Any,
    sample: Mapping[str, Any],
    criterion: Any,
    dropout: bool = False,
    seed: int = 1,
) -> Iterator[float]:
    """Run forward and backward; inside the block weights have their gradients.

    Yields:
        The loss, in nats a token. Afterwards no weight has a gradient.

    Raises:
        AdminError: if the criterion does not fit the model.
    """
    softmax = getattr(model.decoder, "adaptive_softmax", None)
    if softmax is not None and not isinstance(criterion, AdaptiveLoss):
        raise AdminError("the model has an adaptive softmax: its loss is --criterion adaptive_loss")
    model.zero_grad(set_to_none=True)
    try:
        with probe.dropout_mode(model, dropout, seed), torch.enable_grad():
            loss, sample_size, _ = criterion(model, sample)
            loss = loss / sample_size
            loss.backward()
        for weight in model.parameters():
            if weight.grad is None:  # frozen, or not in this loss
                weight.grad = torch.zeros_like(weight)
        yield loss.item()
    finally:
        model.zero_grad(set_to_none=True)


def gradient_norms(
    model: Any,
    sample: Mapping[str, Any],
    criterion: Any,
    dropout: bool = False,
    seed: int = 1,
) -> tuple[float, list[Row]]:
    """Measure both norms at every site.

    Args:
        model: in float64; left as it was, without gradients.
        sample: a fairseq batch.
        criterion: fairseq's.
        dropout: run in training mode, with the masks of ``seed``.
        seed: of the masks.

    Returns:
        (loss in nats a token, rows). A row has ``stack``, ``layer`` (from 0), ``site``, the two
        norms ``weights`` and ``output``, and ``layer_weights``, the norm of all branches of its
        layer.

    Raises:
        AdminError: if the loss or a gradient is not finite, or the criterion does not fit the
            model.
    """
    sites: list[probe.Site] = []
    for of_stack in probe.sites_of(model).values():
        sites += of_stack
    sums: dict[str, Tensor] = {}
    with contextlib.ExitStack() as hooks:
        for site in sites:
            handle = site.residual.register_forward_hook(_keeping_hook(sums, site.name))
            hooks.callback(handle.remove)
        with backward(model, sample, criterion, dropout, seed) as loss:
            rows = [_norms_of_site(site, sums.get(site.name)) for site in sites]
    norms = [row[name] for row in rows for name in ("weights", "output")]
    check_finite([loss, *norms])
    layers = by_layer(rows)
    for row in rows:
        row["layer_weights"] = layers[row["stack"], row["layer"]]
    return loss, rows


def _keeping_hook(sums: dict[str, Tensor], name: str) -> Callable[[nn.Module, Any, Tensor], None]:
    """Return a hook that keeps the sum of a site, and has it keep its gradient."""

    def hook(module: nn.Module, inputs: Any, output: Tensor) -> None:
        if output.requires_grad:
            # autograd keeps gradients of leaves alone
            output.retain_grad()
            sums[name] = output

    return hook


def _norms_of_site(site: probe.Site, total: Tensor | None) -> Row:
    """Return both norms of a site. ``total``: its sum; None if no gradient reaches that."""
    return {
        "stack": site.stack,
        "layer": site.layer,
        "site": site.name,
        "weights": norm(weight.grad for weight in site.matrices),
        "output": norm([None if total is None else total.grad]),
    }


def norm(tensors: Iterable[Tensor | None]) -> float:
    """Return the length of all the tensors' elements together."""
    square = 0.0
    for x in tensors:
        if x is not None:
            square += float(x.double().pow(2).sum())
    return math.sqrt(square)


def check_finite(values: Iterable[float]) -> None:
    """Refuse to go on with NaN or infinity.

    Args:
        values: the loss, and norms of gradients.

    Raises:
        AdminError: if one of them is not finite.
    """
    if not all(math.isfinite(value) for value in values):
        raise AdminError(
            "gradients: they are not finite; 'admin-fairseq analyze stability' says where it begins"
        )


def by_layer(rows: Iterable[Row]) -> dict[tuple[str, int], float]:
    """Return ``{(stack, layer): norm of the weights' gradients}``."""
    squares: dict[tuple[str, int], float] = {}
    for row in rows:
        key = (row["stack"], row["layer"])
        squares[key] = squares.get(key, 0.0) + row["weights"] ** 2
    return {key: math.sqrt(value) for key, value in squares.items()}
