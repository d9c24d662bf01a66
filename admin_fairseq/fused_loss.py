"""Label-smoothed cross entropy of features: projected, smoothed and differentiated in one go.

fairseq's criterion holds logits, their log-softmax and the gradients of both, each tokens x V. Here
the positions go through in chunks: what is V wide lives as long as its chunk. With
``eps_i = eps / (V - 1)`` and p the softmax of a position's logits z, the loss and its gradient are
fairseq's (``label_smoothed_nll_loss``):

    loss = (1 - eps - eps_i) * -log p[target] + eps_i * sum_v -log p[v]
    d loss / dz = p - (1 - eps - eps_i) * onehot(target) - eps_i

Both are made while a chunk is at hand, and the backward pass only multiplies by the gradient of the
loss. In half precision with loss scaling (float16) the scale is known in the backward pass alone,
and gradients would underflow without it: there the chunks are projected a second time.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from .errors import AdminError

# a chunk has this many logits, and no fewer rows: products of fewer rows are slower
_CPU_LOGITS, _GPU_LOGITS = 2 << 20, 16 << 20
_ROWS = 128


class Sums(NamedTuple):
    """What :func:`fused_loss` returns, summed over positions; tensors without dimensions.

    Attributes:
        loss: the smoothed loss, in nats, in float32 at least; it has a gradient.
        nll_loss: the negative log-likelihood, in nats, without one.
        correct: how many targets have the highest logit; 0 where not asked for.
    """

    loss: Tensor
    nll_loss: Tensor
    correct: Tensor


class _Plan(NamedTuple):
    """How chunks are made: rows a chunk, the type of the logits, and what is wanted."""

    smoothing: float
    rows: int
    dtype: torch.dtype
    count_correct: bool


def fused_loss(
    features: Tensor,
    weight: Tensor,
    target: Tensor,
    smoothing: float,
    count_correct: bool = False,
    rows: int | None = None,
) -> Sums:
    """Return the label-smoothed cross entropy of ``features @ weight.T``.

    Args:
        features: N x C, of the positions that count.
        weight: V x C, of the output projection.
        target: N, numbers of types below V.
        smoothing: eps, from 0 to 1.
        count_correct: whether to count the targets that have the highest logit.
        rows: positions a chunk; by default as many as measured best.

    Under autocast the logits have its type, as those of ``nn.Linear`` have. The gradient cannot be
    differentiated once more: that is refused with an :class:`AdminError`.
    """
    if rows is None:
        logits = _CPU_LOGITS if features.device.type == "cpu" else _GPU_LOGITS
        rows = max(_ROWS, logits // weight.size(0))
    plan = _Plan(smoothing, rows, _dtype_of_logits(features), count_correct)
    if torch.is_grad_enabled() and (features.requires_grad or weight.requires_grad):
        return Sums(*_FusedLoss.apply(features, weight, target, plan))
    with torch.autocast(features.device.type, enabled=False):
        return _Chunks(features, weight, target, plan).run((False, False))


def _dtype_of_logits(features: Tensor) -> torch.dtype:
    kind = features.device.type
    if torch.is_autocast_enabled(kind) and features.dtype != torch.float64:
        return torch.get_autocast_dtype(kind)
    return features.dtype


class _FusedLoss(torch.autograd.Function):
    """The loss with its gradient, for autograd."""

    @staticmethod
    def forward(
        ctx: Any, features: Tensor, weight: Tensor, target: Tensor, plan: _Plan
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return loss, nll and the number of correct targets."""
        ctx.save_for_backward(features, weight, target)
        ctx.plan = plan
        now = plan.dtype != torch.float16  # else the loss's scale has to be known first
        wanted = ctx.needs_input_grad[:2] if now else (False, False)
        with torch.autocast(features.device.type, enabled=False):
            chunks = _Chunks(features, weight, target, plan)
            sums = chunks.run(wanted)
        ctx.gradients = chunks.gradients() if now else None
        ctx.mark_non_differentiable(sums.nll_loss, sums.correct)
        return sums.loss, sums.nll_loss, sums.correct

    @staticmethod
    def backward(ctx: Any, loss_gradient: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:
        """Return the gradients of features and weight; a second time (``retain_graph``) too.

        Raises:
            AdminError: if they are to be differentiated once more.
        """
        if torch.is_grad_enabled():  # which it is where the graph of gradients is made
            raise AdminError(
                "the gradient of the fused loss cannot be differentiated once more "
                "(create_graph=True); take --criterion label_smoothed_cross_entropy"
            )
        features, weight, target = ctx.saved_tensors
        if ctx.gradients is None:
            with torch.autocast(features.device.type, enabled=False):
                chunks = _Chunks(features, weight, target, ctx.plan, loss_gradient)
                chunks.run(ctx.needs_input_grad[:2])
            return (*chunks.gradients(), None, None)
        # handed over, so that autograd need not copy what somebody else holds
        gradients, ctx.gradients = ctx.gradients, None
        if loss_gradient.device.type != "cpu" or loss_gradient.item() != 1:
            for gradient in gradients:
                if gradient is not None:
                    gradient.mul_(loss_gradient)
        return (*gradients, None, None)


class _Chunks:
    """One walk over the chunks.

    Args:
        features, weight, target, plan: see :func:`fused_loss`.
        scale: what the gradients are multiplied by, before they are rounded to half precision.
    """

    def __init__(
        self,
        features: Tensor,
        weight: Tensor,
        target: Tensor,
        plan: _Plan,
        scale: Tensor | None = None,
    ) -> None:
        self.plan, self.scale = plan, scale
        self.features, self.weight, self.target = features, weight, target
        # log-softmax, sums and the weight's gradient, as fairseq has the first
        self.wide = torch.float64 if plan.dtype == torch.float64 else torch.float32
        self.types = weight.size(0)
        self.share = plan.smoothing / (self.types - 1)  # eps_i
        self.features_gradient: Tensor | None = None
        self.weight_gradient: Tensor | None = None

    def run(self, wanted: tuple[bool, bool]) -> Sums:
        """Return the sums; keep the gradients of features and of weight where ``wanted``."""
        if wanted[0]:
            self.features_gradient = torch.empty_like(self.features)
        if wanted[1]:
            self.weight_gradient = torch.zeros_like(self.weight, dtype=self.wide)
        nll = self.features.new_empty(len(self.target), dtype=self.wide)
        others = torch.empty_like(nll)
        correct = self.target.new_zeros(())
        weight = self.weight.to(self.plan.dtype)
        for piece in self._pieces():
            x, target = self.features[piece].to(self.plan.dtype), self.target[piece, None]
            log_probs = functional.linear(x, weight).log_softmax(-1, dtype=self.wide)
            nll[piece] = log_probs.gather(1, target)[:, 0].neg_()
            torch.sum(log_probs, 1, out=others[piece])
            if self.plan.count_correct:
                correct += log_probs.argmax(1, keepdim=True).eq(target).sum()
            if any(wanted):
                self._differentiate(piece, x, weight, target, log_probs)
        nll_loss = nll.sum()
        loss = (1 - self.plan.smoothing - self.share) * nll_loss - self.share * others.sum()
        return Sums(loss, nll_loss, correct)

    def _pieces(self) -> Iterator[slice]:
        for start in range(0, len(self.target), self.plan.rows):
            yield slice(start, start + self.plan.rows)

    def _differentiate(
        self, piece: slice, x: Tensor, weight: Tensor, target: Tensor, log_probs: Tensor
    ) -> None:
        """Add a chunk's part to the gradients; its log-probabilities are overwritten."""
        gradient = log_probs.exp_().sub_(self.share)
        likely = gradient.new_full((1, 1), self.plan.smoothing + self.share - 1)
        gradient.scatter_add_(1, target, likely.expand_as(target))
        if self.scale is not None:
            gradient.mul_(self.scale)
        gradient = gradient.to(self.plan.dtype)
        if self.features_gradient is not None:
            self.features_gradient[piece] = gradient @ weight
        if self.weight_gradient is not None:
            if self.plan.dtype == self.wide:
                self.weight_gradient.addmm_(gradient.t(), x)
            else:  # each product is rounded, their sum is not
                self.weight_gradient += gradient.t() @ x

    def gradients(self) -> tuple[Tensor | None, Tensor | None]:
        """Return the gradients of features and of weight, in the types of these."""
        if self.weight_gradient is None:
            return self.features_gradient, None
        return self.features_gradient, self.weight_gradient.to(self.weight.dtype)
