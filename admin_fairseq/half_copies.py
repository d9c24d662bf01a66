"""Half-precision weights and their float32 masters copied in one pass, for optimizers of ours.

With ``--bf16`` fairseq keeps a float32 master of every weight, and copies gradients to the masters
and weights back tensor by tensor. Under an optimizer that works on lists, these copies would be
most of what an update starts. Copies are copies: no bit depends on how they are made.
"""

from __future__ import annotations

import functools
from typing import Any

import torch
from fairseq.optim import FP16Optimizer
from torch import Tensor

from .compat.marks import is_mended, mark
from .multi_tensor import OnePassNorm


def install() -> None:
    """Replace the loops in fairseq's wrapper for half precision. Twice changes nothing."""
    for one_pass in (_sync_fp16_grads_to_fp32, _sync_fp32_params_to_fp16, zero_grad):
        _replace(one_pass)


def _replace(one_pass: Any) -> None:
    loop = getattr(FP16Optimizer, one_pass.__name__)
    if is_mended(loop, by=__name__):
        return

    @functools.wraps(loop)
    def choose(self: Any) -> None:
        if isinstance(self.fp32_optimizer, OnePassNorm) and not self.has_flat_params:
            one_pass(self)
        else:
            loop(self)

    setattr(FP16Optimizer, one_pass.__name__, mark(choose, by=__name__))


# The three below have fairseq's names and do what its loops do, in lists.


def _sync_fp16_grads_to_fp32(self: Any) -> None:
    if not self._needs_sync:
        return
    grads: list[Tensor] = []
    copies: list[Tensor] = []
    for param, master in zip(self.fp16_params, self.fp32_params):
        if not param.requires_grad:
            continue
        if param.grad is None:
            master.grad = torch.zeros_like(param.data, dtype=torch.float32)
            continue
        if master.grad is None:
            master.grad = torch.empty_like(param.data, dtype=torch.float32)
        grads.append(param.grad.data)
        copies.append(master.grad.data)
    if grads:
        torch._foreach_copy_(copies, grads)
    self._needs_sync = False


def _sync_fp32_params_to_fp16(self: Any) -> None:
    params: list[Tensor] = []
    masters: list[Tensor] = []
    for param, master in zip(self.fp16_params, self.fp32_params):
        if param.requires_grad:
            params.append(param.data)
            masters.append(master.data)
    if params:
        torch._foreach_copy_(params, masters)


def zero_grad(self: Any) -> None:
    """Clear the gradients of weights and masters."""
    for param in self.fp16_params:
        param.grad = None
    grads = [master.grad for master in self.fp32_params if master.grad is not None]
    if grads:
        torch._foreach_zero_(grads)
    self._needs_sync = False
    if self.scaler is not None:
        self._multiply_factor = 1.0 / float(self.scaler.loss_scale)
