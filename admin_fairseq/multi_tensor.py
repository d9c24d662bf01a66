"""Work on all tensors of a model in few passes: what the optimizers have in common.

An optimizer that takes tensor after tensor starts a kernel per operation and tensor: thousands an
update. torch's ``_foreach`` functions take lists of tensors. On a CPU they are loops over the same
kernels, so that every bit stays; what is saved there is the time between them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import torch
from fairseq import utils
from fairseq.optim import FairseqOptimizer
from torch import Tensor

HALVES = (torch.float16, torch.bfloat16)

# elements of a bucket: on a CPU, what its cache holds of weights, gradients and moments; elsewhere,
# what temporary tensors may take
_CPU_BUCKET, _GPU_BUCKET = 256 << 10, 16 << 20

Row = tuple[Tensor, ...]


class Bucket(NamedTuple):
    """Tensors that are updated together: of one device, type and layout, at the same step.

    Attributes:
        step: the number of the update, counted from 1.
        params: weights, to be changed in place.
        grads: their gradients.
        moments: lists of an optimizer's moments, each as long as ``params``.
    """

    step: float
    params: list[Tensor]
    grads: list[Tensor]
    moments: list[list[Tensor]]


def update(rows: Iterable[tuple[float, Row]], function: Callable[[Bucket], None]) -> None:
    """Call ``function`` with buckets of rows, in float32 where weights are half precision.

    Args:
        rows: of each weight its step, and the tensors (weight, gradient, moments).
        function: changes weights and moments in place.
    """
    by_kind: dict[Any, list[Row]] = {}
    for step, row in rows:
        param, grad = row[:2]
        kind = (step, param.device, param.dtype, grad.dtype, param.stride() == grad.stride())
        by_kind.setdefault(kind, []).append(row)
    for (step, *_), alike in by_kind.items():
        for part in _parts(alike):
            params, grads, *moments = (list(column) for column in zip(*part))
            wide, wide_grads = _widened(params), _widened(grads)
            function(Bucket(step, wide, wide_grads, moments))
            if wide is not params:
                torch._foreach_copy_(params, wide)


def fitting(moment: Tensor, param: Tensor) -> Tensor:
    """Return a moment on its weight's device, in float32 at least.

    A loaded one is where the checkpoint was, and perhaps in half precision.
    """
    dtype = torch.float32 if param.dtype in HALVES else param.dtype
    if moment.dtype == dtype and moment.device == param.device:
        return moment
    return moment.to(device=param.device, dtype=dtype)


def new_moment(param: Tensor) -> Tensor:
    """Return zeros for a weight, in float32 at least."""
    dtype = torch.float32 if param.dtype in HALVES else param.dtype
    return torch.zeros_like(param, dtype=dtype)


def _widened(tensors: list[Tensor]) -> list[Tensor]:
    """Return float32 copies of half-precision tensors; others as they are, the list itself too."""
    if tensors[0].dtype not in HALVES:
        return tensors
    wide = [torch.empty_like(tensor, dtype=torch.float32) for tensor in tensors]
    torch._foreach_copy_(wide, tensors)
    return wide


def _parts(rows: Sequence[Row]) -> Iterator[list[Row]]:
    """Yield the rows in portions of a bucket's size; large tensors are cut."""
    size = _CPU_BUCKET if rows[0][0].device.type == "cpu" else _GPU_BUCKET
    part: list[Row] = []
    room = size
    for row in rows:
        elements = row[0].numel()
        if elements > room and part:
            yield part
            part, room = [], size
        if elements > size and all(tensor.is_contiguous() for tensor in row):
            for pieces in zip(*(tensor.view(-1).split(size) for tensor in row)):
                yield [pieces]
            continue
        part.append(row)
        room -= elements
    if part:
        yield part


class OnePassNorm(FairseqOptimizer):
    """fairseq's optimizer interface, with a gradient norm over lists of tensors."""

    def clip_grad_norm(
        self, max_norm: float, aggregate_norm_fn: Callable[[Tensor], Tensor] | None = None
    ) -> Tensor:
        """Return the norm of all gradients; scale them down to ``max_norm`` where it is above 0."""
        return clip_grad_norm(list(self.params), max_norm, aggregate_norm_fn)


@torch.no_grad()
def clip_grad_norm(
    params: Sequence[Tensor],
    max_norm: float,
    aggregate_norm_fn: Callable[[Tensor], Tensor] | None = None,
) -> Tensor:
    """Return the norm of gradients as ``fairseq.utils.clip_grad_norm_`` does, in two operations.

    On the CPU it is the same to the bit; on a GPU sums are taken in another order. What this does
    not know is left to fairseq: its experts, sparse or float64 gradients, apex's kernel.
    """
    grads: list[Tensor] = []
    for param in params:
        if param.grad is not None:
            grads.append(param.grad.data)
    if len(grads) < 2 or any(map(_is_special, params)) or _has_apex():
        return utils.clip_grad_norm_(params, max_norm, aggregate_norm_fn)
    by_device: dict[torch.device, list[Tensor]] = {}
    for grad in grads:
        by_device.setdefault(grad.device, []).append(grad)
    home = torch.device("cuda", torch.cuda.current_device()) if torch.cuda.is_available() else None
    norms: list[Tensor] = []
    for alike in by_device.values():
        parts = torch.stack(torch._foreach_norm(alike, 2, dtype=torch.float32))
        norms.append(parts.to(home or grads[0].device))
    total = torch.norm(torch.cat(norms))
    if aggregate_norm_fn is not None:
        total = aggregate_norm_fn(total)
    if max_norm > 0:
        scale = (float(max_norm) / (total + 1e-6)).clamp_(max=1)
        for alike in by_device.values():
            torch._foreach_mul_(alike, scale.to(alike[0].device))
    return total


def _is_special(param: Tensor) -> bool:
    grad = param.grad
    return hasattr(param, "expert") or (
        grad is not None and (grad.is_sparse or grad.dtype == torch.float64)
    )


def _has_apex() -> bool:
    return bool(getattr(utils, "multi_tensor_l2norm_available", False))
