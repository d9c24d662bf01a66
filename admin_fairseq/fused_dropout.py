"""Dropout whose mask costs less to draw on a CPU: sixteen random bits an element."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from fairseq.modules import FairseqDropout
from torch import Tensor

_LEVELS = 2**16  # of sixteen bits


class FusedDropout(FairseqDropout):
    """fairseq's dropout over :func:`drop`."""

    def forward(self, x: Tensor, inplace: bool = False) -> Tensor:
        """x: any shape. Nothing is done in place: the result may always be written to."""
        if self.p > 0 and (self.training or self.apply_during_inference):
            return drop(x, self.p)
        return x


def drop(x: Tensor, p: float) -> Tensor:
    """Return ``x`` with elements that are 0 with probability ``p``, the others scaled by 1 / (1-p).

    torch draws a number of 32 bits an element on a CPU, one at a time; here a draw of 64 bits
    serves four elements. So p is rounded to a multiple of 2^-16, and what is kept is scaled by the
    rounded p: the expected value is exactly ``x``. On other devices torch's own dropout is one
    kernel, and is taken.
    """
    kept = round((1 - p) * _LEVELS)
    if x.device.type != "cpu" or not 0 < kept < _LEVELS:
        return F.dropout(x, p)
    words = torch.empty((x.numel() + 3) // 4, dtype=torch.int64).random_(-(2**63), None)
    # four numbers from -2^15 to 2^15 - 1 a word
    numbers = words.view(torch.int16)[: x.numel()].view(x.shape)
    noise = torch.empty(x.shape, dtype=x.dtype)
    torch.lt(numbers, kept - _LEVELS // 2, out=noise)
    return x * noise.mul_(_LEVELS / kept)
