"""Losses that are not a number: fairseq's own report."""

import functools
from collections.abc import Iterator
from typing import Any

import torch
from torch import nn

from .marks import is_mended, mark


def report_nan() -> None:
    """Have fairseq's NaN detector name the layer, however its output is nested.

    A loss that is NaN ended in a StopIteration, before the detector could. It attaches torch's old
    backward hooks, which look for a tensor in a module's output and find none in the encoder's, a
    dictionary of lists. Here each tensor of an output reports its own gradient.
    """
    from fairseq.nan_detector import NanDetector

    original = NanDetector.add_hooks
    if is_mended(original) or not _stumbles(NanDetector):
        return

    @functools.wraps(original)
    def add_hooks(self: Any, module: nn.Module) -> None:
        if self.forward:
            self.fhooks.append(module.register_forward_hook(self.fhook_fn))
        if self.backward:
            watch = functools.partial(_watch_gradients, self)
            self.bhooks.append(module.register_forward_hook(watch))

    NanDetector.add_hooks = mark(add_hooks)


def _watch_gradients(detector: Any, module: nn.Module, inputs: Any, output: Any) -> None:
    for tensor in _tensors(output):
        if tensor.requires_grad:
            report = functools.partial(detector.bhook_fn, module, None)
            detector.bhooks.append(tensor.register_hook(report))


def _tensors(output: Any) -> Iterator[torch.Tensor]:
    if torch.is_tensor(output):
        yield output
    elif isinstance(output, (dict, list, tuple)):
        for part in output.values() if isinstance(output, dict) else output:
            yield from _tensors(part)


class _Nested(nn.Module):
    """Answers as fairseq's Transformer encoder does."""

    def forward(self, x: torch.Tensor) -> dict[str, list[torch.Tensor]]:
        return {"encoder_out": [x * 2]}


def _stumbles(detector: Any) -> bool:
    module = _Nested()
    try:
        with detector(module):
            module(torch.zeros(2, requires_grad=True))
    except StopIteration:
        return True
    return False
