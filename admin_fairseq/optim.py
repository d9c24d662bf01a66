"""``--optimizer radam``: rectified Adam (Liu et al., ICLR 2020, arXiv 1908.03265).

It is the papers' optimizer, and fairseq has none; torch's is used. It is element-wise, so that it
runs on fairseq's flat float32 master weights (``--fp16``, ``--bf16``) as it does on the weights
themselves. Where there are no such copies (``--memory-efficient-fp16``,
``--memory-efficient-bf16``), its state and its arithmetic are in float32 all the same.

fairseq reads the types of ``RAdamConfig`` when it makes flags. As strings, which is what
``from __future__ import annotations`` makes of them, they break every command of fairseq's.
"""

import functools
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, List, Optional

import torch
from fairseq import utils
from fairseq.dataclass import FairseqDataclass
from fairseq.optim import register_optimizer
from omegaconf import II
from torch import Tensor

from .multi_tensor import Bucket, OnePassNorm, Row, fitting, new_moment, update

_MOMENTS = ("exp_avg", "exp_avg_sq")


@dataclass
class RAdamConfig(FairseqDataclass):
    """Flags with the names that fairseq's Adam has, so that recipes carry over."""

    adam_betas: Any = field(
        default=(0.9, 0.999), metadata={"help": "betas for the RAdam optimizer"}
    )
    adam_eps: float = field(default=1e-8, metadata={"help": "epsilon for the RAdam optimizer"})
    weight_decay: float = field(
        default=0.0,
        metadata={"help": "weight decay, decoupled as in AdamW (and in the authors' RAdam)"},
    )
    lr: List[float] = II("optimization.lr")


class MultiTensorRAdam(torch.optim.RAdam):
    """torch's RAdam over lists of tensors, with its bits on a CPU.

    torch has such a form too, for GPUs, which rounds in another way and needs more memory. For
    half-precision weights state and arithmetic are in float32, as in fairseq's Adam; only the
    weights themselves are rounded, after each step.
    """

    @torch.no_grad()
    def step(self, closure: Optional[Callable[[], Any]] = None) -> Any:
        """Update the weights; returns what ``closure`` returns."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            update(self._rows(group), functools.partial(_rectified_update, group))
        return loss

    def _rows(self, group: dict[str, Any]) -> list[tuple[float, Row]]:
        """Return each weight's step, and the weight, gradient and moments."""
        rows: list[Row] = []
        steps: list[Tensor] = []
        for param in group["params"]:
            if param.grad is None:
                continue
            if param.grad.is_sparse:
                raise RuntimeError("RAdam does not support sparse gradients")
            data, state = param.data, self.state[param]
            if len(state) == 0:
                state["step"] = torch.tensor(0.0)
                for name in _MOMENTS:
                    state[name] = new_moment(data)
            for name in _MOMENTS:
                state[name] = fitting(state[name], data)
            steps.append(state["step"])
            rows.append((data, param.grad.data, *(state[name] for name in _MOMENTS)))
        if not rows:
            return []
        torch._foreach_add_(steps, 1)
        return list(zip(torch.stack(steps).tolist(), rows))


def _rectified_update(group: dict[str, Any], bucket: Bucket) -> None:
    """Change weights and moments in place, with torch's operations in its order."""
    step, params, grads, (means, squares) = bucket
    (beta1, beta2), lr = group["betas"], group["lr"]
    if group["weight_decay"] != 0:
        torch._foreach_mul_(params, 1 - lr * group["weight_decay"])
    torch._foreach_lerp_(means, grads, 1 - beta1)
    torch._foreach_mul_(squares, beta2)
    torch._foreach_addcmul_(squares, grads, grads, value=1 - beta2)
    steps = torch._foreach_div(means, 1 - beta1**step)
    torch._foreach_mul_(steps, lr)
    correction = 1 - beta2**step
    longest = 2 / (1 - beta2) - 1  # of the approximated moving averages
    length = longest - 2 * step * beta2**step / correction
    if length > 5:
        rates = torch._foreach_sqrt(squares)
        torch._foreach_add_(rates, group["eps"])
        torch._foreach_reciprocal_(rates)
        torch._foreach_mul_(rates, correction**0.5)
        torch._foreach_mul_(steps, rates)
        share = (length - 4) * (length - 2) * longest / ((longest - 4) * (longest - 2) * length)
        torch._foreach_mul_(steps, share**0.5)
    torch._foreach_add_(params, steps, alpha=-1)


def settings_of(cfg: Any) -> dict[str, Any]:
    """Return what the flags that all kinds of Adam share say, as torch's optimizers take it."""
    return {
        # fairseq's list has a rate an epoch; its scheduler sets the later ones
        "lr": cfg.lr[0] if isinstance(cfg.lr, Sequence) else cfg.lr,
        # as text, or as fairseq has read it
        "betas": tuple(utils.eval_str_list(str(cfg.adam_betas).strip("()[]"), type=float)),
        "eps": cfg.adam_eps,
        "weight_decay": cfg.weight_decay,
    }


@register_optimizer("radam", dataclass=RAdamConfig)
class FairseqRAdam(OnePassNorm):
    """torch's RAdam behind fairseq's optimizer interface."""

    def __init__(self, cfg: Any, params: Iterable[Tensor]) -> None:
        super().__init__(cfg)
        self._optimizer = MultiTensorRAdam(params, **self.optimizer_config)

    @property
    def optimizer_config(self) -> dict[str, Any]:
        """Settings that win over those stored in a checkpoint when training resumes."""
        return {**settings_of(self.cfg), "decoupled_weight_decay": True}

    @property
    def supports_memory_efficient_fp16(self) -> bool:
        """Whether weights may be half precision, without float32 copies (see MultiTensorRAdam)."""
        return True

    @property
    def supports_flat_params(self) -> bool:
        """Whether weights may be slices of one flat tensor."""
        return True
