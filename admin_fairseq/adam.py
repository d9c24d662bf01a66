"""``--optimizer multi_tensor_adam`` and ``fused_adam``: fairseq's Adam in few passes.

Both follow the formula of ``fairseq.optim.adam``: decoupled weight decay, epsilon outside the bias
correction. The first has its operations in its order, over lists of tensors, and is equal to it bit
for bit on a CPU. The second is torch's fused kernel (that of ``torch.optim.AdamW(fused=True)``),
equal to rounding. State and class name are fairseq's, so that checkpoints go on with any of them.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
from fairseq.optim import FairseqOptimizer, register_optimizer
from fairseq.optim.adam import Adam, FairseqAdam, FairseqAdamConfig
from torch import Tensor

from .errors import AdminError
from .multi_tensor import Bucket, OnePassNorm, Row, fitting, new_moment, update
from .optim import settings_of

_MOMENTS = ("exp_avg", "exp_avg_sq")


class MultiTensorAdam(Adam):
    """fairseq's Adam over lists of tensors; arguments, state and errors are its own."""

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Update the weights; returns what ``closure`` returns."""
        loss = None if closure is None else closure()
        with torch.no_grad():
            for group in self.param_groups:
                update(self._rows(group), functools.partial(self._update, group))
        return loss

    def _rows(self, group: dict[str, Any]) -> Iterator[tuple[float, Row]]:
        """Yield each weight's step, and the weight, gradient and moments."""
        params = [param for param in group["params"] if param.grad is not None]
        if any(param.grad.is_sparse for param in params):
            raise RuntimeError(
                "Adam does not support sparse gradients, please consider SparseAdam instead"
            )
        names = (*_MOMENTS, "max_exp_avg_sq") if group.get("amsgrad", False) else _MOMENTS
        for param in params:
            data, state = param.data, self.state[param]
            if len(state) == 0:
                state["step"] = 0
                for name in names:
                    state[name] = new_moment(data)
            state["step"] += 1
            row = [data, param.grad.data]
            for name in names:
                state[name] = fitting(state[name], data)
                row.append(state[name])
            yield state["step"], tuple(row)

    def _update(self, group: dict[str, Any], bucket: Bucket) -> None:
        """Change weights and moments in place."""
        _, params, grads, moments = bucket
        (beta1, beta2), lr, decay = group["betas"], group["lr"], group["weight_decay"]
        torch._foreach_mul_(moments[0], beta1)
        torch._foreach_add_(moments[0], grads, alpha=1 - beta1)
        torch._foreach_mul_(moments[1], beta2)
        torch._foreach_addcmul_(moments[1], grads, grads, value=1 - beta2)
        if len(moments) > 2:
            torch._foreach_maximum_(moments[2], moments[1])
        denominators = torch._foreach_sqrt(moments[-1])
        torch._foreach_add_(denominators, group["eps"])
        if decay != 0:
            torch._foreach_add_(params, params, alpha=-decay * lr)
        step_size = lr * _root(beta2, bucket.step) / (1 - beta1**bucket.step)
        torch._foreach_addcdiv_(params, moments[0], denominators, value=-step_size)


def _root(beta2: float, step: float) -> float:
    """Return the root of Adam's second bias correction."""
    return math.sqrt(1 - beta2**step)


class FusedAdam(MultiTensorAdam):
    """The same with torch's fused kernel, which goes over the tensors once."""

    def _update(self, group: dict[str, Any], bucket: Bucket) -> None:
        """Change weights and moments in place."""
        step, params, grads, moments = bucket
        if not _contiguous(params, grads, *moments):
            # the kernel pairs elements by their place in memory
            super()._update(group, bucket)
            return
        means, squares, *largest = moments
        torch._fused_adamw_(
            params,
            grads,
            means,
            squares,
            largest[0] if largest else [],
            # made on the device: a copy from the CPU would wait for it
            [torch.full((), float(step), device=params[0].device)] * len(params),
            amsgrad=bool(largest),
            lr=group["lr"],
            beta1=group["betas"][0],
            beta2=group["betas"][1],
            weight_decay=group["weight_decay"],
            # torch corrects the second moment before it adds epsilon, fairseq after it
            eps=group["eps"] / _root(group["betas"][1], step),
            maximize=False,
        )


def _contiguous(*lists: list[Tensor]) -> bool:
    return all(tensor.is_contiguous() for tensors in lists for tensor in tensors)


class _FewPasses(OnePassNorm, FairseqAdam):
    """fairseq's interface of Adam over another step."""

    step_class: type[MultiTensorAdam]

    def __init__(self, cfg: Any, params: Iterable[Tensor]) -> None:
        FairseqOptimizer.__init__(self, cfg)
        if getattr(cfg, "fp16_adam_stats", False):
            raise AdminError(
                "--fp16-adam-stats: this Adam keeps its state in float32; leave the flag out, or "
                "take --optimizer adam, which needs NVIDIA's apex for it"
            )
        self._optimizer = self.step_class(params, **self.optimizer_config)

    @property
    def optimizer_config(self) -> dict[str, Any]:
        """Settings that win over those stored in a checkpoint when training resumes."""
        return settings_of(self.cfg)


@register_optimizer("multi_tensor_adam", dataclass=FairseqAdamConfig)
class FairseqMultiTensorAdam(_FewPasses):
    """fairseq's Adam over lists of tensors: the same bits on a CPU."""

    step_class = MultiTensorAdam


@register_optimizer("fused_adam", dataclass=FairseqAdamConfig)
class FairseqFusedAdam(_FewPasses):
    """fairseq's Adam with torch's fused kernel: equal to rounding."""

    step_class = FusedAdam


# checkpoints hold the name of the optimizer's class, and fairseq does not go on with another one
for _optimizer in (FairseqMultiTensorAdam, FairseqFusedAdam):
    _optimizer.__name__ = FairseqAdam.__name__
