"""The forward pass of ``--cpu --amp``: matrix products in bfloat16 over float32 weights.

torch's autocast for CPUs, with one difference. What has which precision:

- Linear maps, and the products of cross-attention, take and give bfloat16, and add up in float32
  within a product. What a branch does in between (dropout, activation) has the type that it is
  given, so a branch f(x) ends in bfloat16.
- The residual stream is float32: embeddings are, omega * x is, and torch promotes the sum. So are
  LayerNorm with its statistics, log-softmax and loss. What Admin measures is the variance, taken in
  float32, of branches that were rounded; the stream itself never is.
- Gradients of weights are float32, as weights are; those of activations follow the activations.
- Attention as one operator (``scaled_dot_product_attention``, which fairseq's self-attention takes
  without attention dropout) computes in float32, from the bfloat16 q, k and v: here autocast would
  take a kernel whose backward pass is many times as slow as the float32 one (docs/speed.md).
"""

from __future__ import annotations

import contextlib
import functools
import platform
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional


@contextlib.contextmanager
def autocast(cache: bool = True) -> Iterator[None]:
    """Run what follows in bfloat16, as above; for a forward pass alone, as torch asks.

    Args:
        cache: whether a weight that is used twice is rounded once.
    """
    attention = functional.scaled_dot_product_attention
    # by the name that torch's own modules look up: autocast's list cannot be changed for a while
    functional.scaled_dot_product_attention = _in_float32(attention)
    try:
        with torch.autocast("cpu", torch.bfloat16, cache_enabled=cache):
            yield
    finally:
        functional.scaled_dot_product_attention = attention


def in_autocast(run: Callable[..., Any], cache: bool = True) -> Callable[..., Any]:
    """Return ``run`` as a function that runs it in :func:`autocast`."""

    def run_in_autocast(*inputs: Any, **named: Any) -> Any:
        with autocast(cache):
            return run(*inputs, **named)

    return run_in_autocast


def _in_float32(attention: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """Return an attention over bfloat16 tensors that computes, and returns, float32."""

    @functools.wraps(attention)
    def compute(*inputs: Any, **named: Any) -> Tensor:
        with torch.autocast("cpu", enabled=False):
            wide = {name: _widen(value) for name, value in named.items()}
            return attention(*map(_widen, inputs), **wide)

    return compute


def _widen(value: Any) -> Any:
    if torch.is_tensor(value) and value.dtype == torch.bfloat16:
        return value.float()
    return value


def has_fast_bfloat16() -> bool | None:
    """Whether this CPU multiplies bfloat16 with instructions of its own; None where unknown."""
    try:
        if platform.machine().lower() in ("x86_64", "amd64"):
            # not oneDNN's answer: that is yes for AVX512 alone, where bfloat16 is emulated
            return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())
        return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
    except (AttributeError, RuntimeError):  # another torch than today's
        return None
