"""Omegas in the float32 copies of the weights that fairseq trains (``--fp16``, ``--bf16``).

fairseq makes the copies from the model's weights, after half precision has rounded them (by up to
0.4 % in bfloat16), and writes them over the model's weights after every update.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from ..sites import named_omegas


@torch.no_grad()
def fill_master_weights(optimizer: Any, model: nn.Module, omegas: Mapping[str, float]) -> None:
    """Write unrounded omegas into the float32 copies.

    Args:
        optimizer: fairseq's optimizer. Without such copies (float32, amp, memory-efficient) nothing
            is done.
        model: the model that it trains, not wrapped.
        omegas: site -> omega. A frozen omega is in no optimizer, and stays as it is.
    """
    parameters = named_omegas(model).items()
    # by identity: tensors compare element by element
    values = {id(omega): omegas[name] for name, omega in parameters if name in omegas}
    for weight, master in master_weights(optimizer):
        if id(weight) in values:
            # a flat copy's slice is a view: this writes into the tensor that the optimizer holds
            master.fill_(values[id(weight)])


def master_weights(optimizer: Any) -> list[tuple[Tensor, Tensor]]:
    """Return each weight of the model with its float32 copy, for fairseq's ``FP16Optimizer``.

    The copies are slices of one flat tensor per device, or with ``--fp16-no-flatten-grads`` and
    ``--bf16`` tensors of their own; both are written through. Other optimizers have none.
    """
    masters = getattr(optimizer, "fp32_params", None)
    if masters is None:
        return []
    if not isinstance(masters, dict):
        return [(weight, master.data) for weight, master in zip(optimizer.fp16_params, masters)]
    pairs: list[tuple[Tensor, Tensor]] = []
    # fairseq lays weights out one after the other, in the optimizer's order
    for device, flat in masters.items():
        weights = optimizer.fp16_params
        if len(masters) > 1:  # pipelines; else one tensor holds all weights, wherever they are
            weights = [weight for weight in weights if weight.device.index == device]
        sizes = [weight.numel() for weight in weights]
        pairs += zip(weights, flat.data.split(sizes))
    return pairs
