"""Gradient norms by residual site and by layer, at one step.

Two norms for each site: of the gradient with respect to the weights of its branch (what an update
of plain SGD would be), and with respect to the sum that it puts out (how much of the loss's signal
gets there: Liu et al., EMNLP 2020, section 3, ask whether it vanishes). The loss is the criterion's,
divided by its sample size, as fairseq's trainer does.
"""

import contextlib
import math
from collections import OrderedDict

import torch
from fairseq.criterions.adaptive_loss import AdaptiveLoss

from ..errors import AdminError
from . import probe


@contextlib.contextmanager
def backward(model, sample, criterion, dropout=False, seed=1):
    """Run forward and backward; inside the block weights have their gradients. The loss is yielded."""
    model.zero_grad(set_to_none=True)
    try:
        with probe.mode(model, dropout, seed), torch.enable_grad():
            loss, sample_size, _ = criterion(model, sample)
            loss = loss / sample_size
            loss.backward()
        for weight in model.parameters():
            if weight.grad is None:  # frozen, or not in this loss
                weight.grad = torch.zeros_like(weight)
        yield loss.item()
    finally:
        model.zero_grad(set_to_none=True)


def gradient_norms(model, sample, criterion, dropout=False, seed=1):
    """Measure both norms at every site.

    Args:
        model: in float64; left as it was.
        sample: a fairseq batch.
        criterion: fairseq's.

    Returns:
        (loss in nats a token, rows). A row has ``stack``, ``layer`` (from 0), ``site``, the two norms
        ``weights`` and ``output``, and ``layer_weights``, the norm of all branches of its layer.

    Raises:
        AdminError: if the loss or a gradient is not finite, or the criterion does not fit the model.
    """
    softmax = getattr(model.decoder, "adaptive_softmax", None)
    if softmax is not None and not isinstance(criterion, AdaptiveLoss):
        raise AdminError("the model has an adaptive softmax: its loss is --criterion adaptive_loss")
    outputs, handles = OrderedDict(), []

    def keep(name):
        def hook(module, inputs, output):
            if output.requires_grad:
                output.retain_grad()
                outputs[name] = output

        return hook

    sites = [site for of_stack in probe.sites_of(model).values() for site in of_stack]
    try:
        for site in sites:
            handles.append(site.residual.register_forward_hook(keep(site.name)))
        with backward(model, sample, criterion, dropout, seed) as loss:
            rows = [
                {
                    "stack": site.stack,
                    "layer": site.layer,
                    "site": site.name,
                    "weights": norm([weight.grad for weight in site.matrices]),
                    "output": norm([outputs[site.name].grad] if site.name in outputs else []),
                }
                for site in sites
            ]
    finally:
        for handle in handles:
            handle.remove()
    if not all(
        math.isfinite(value)
        for value in [loss] + [row[what] for row in rows for what in ("weights", "output")]
    ):
        raise AdminError(
            "gradients: they are not finite; 'admin-fairseq analyze stability' says where it begins"
        )
    layers = by_layer(rows)
    return loss, [{**row, "layer_weights": layers[row["stack"], row["layer"]]} for row in rows]


def norm(tensors):
    """Return the length of all the tensors' elements together."""
    return math.sqrt(sum(float(x.double().pow(2).sum()) for x in tensors if x is not None))


def by_layer(rows):
    """Return ``{(stack, layer): norm of the weights' gradients}``."""
    squares = OrderedDict()
    for row in rows:
        key = (row["stack"], row["layer"])
        squares[key] = squares.get(key, 0.0) + row["weights"] ** 2
    return OrderedDict((key, math.sqrt(value)) for key, value in squares.items())
