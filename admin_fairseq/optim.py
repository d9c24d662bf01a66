"""``--optimizer radam``: rectified Adam (Liu et al., ICLR 2020, arXiv 1908.03265).

It is the papers' optimizer, and fairseq has none; torch's is used. It is element-wise, so that it
runs on fairseq's flat float32 master weights (``--fp16``, ``--bf16``) as it does on the weights
themselves. Where there are no such copies (``--memory-efficient-fp16``,
``--memory-efficient-bf16``), its state and its arithmetic are in float32 all the same.

fairseq reads the types of ``RAdamConfig`` when it makes flags. As strings, which is what
``from __future__ import annotations`` makes of them, they break every command of fairseq's.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, List, Optional

import torch
from fairseq import utils
from fairseq.dataclass import FairseqDataclass
from fairseq.optim import FairseqOptimizer, register_optimizer
from omegaconf import II
from torch import Tensor

_HALVES = (torch.float16, torch.bfloat16)
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


class Float32StateRAdam(torch.optim.RAdam):
    """torch's RAdam, which computes in float32 for half-precision weights, as fairseq's Adam does.

    Only the weights themselves are rounded, after each step. For float32 weights it is torch's, bit
    for bit.
    """

    _copies: list[tuple[Tensor, Tensor]]  # weights of the running step, and their float32 copies

    def _init_group(self, group: dict[str, Any], *lists: list[Tensor]) -> Any:
        """Hand torch's step float32 copies of half-precision weights and gradients.

        Args:
            group: of weights, as torch keeps it.
            lists: what torch's step collects: weights, gradients, moments and steps.
        """
        wide = dict(group, params=[])
        for param in group["params"]:
            # without a gradient torch skips it: a copy would be work for nothing
            if param.dtype not in _HALVES or param.grad is None:
                wide["params"].append(param)
                continue
            copy = param.detach().float()
            copy.grad = param.grad.float()
            state: dict[str, Tensor] = {}
            for key, value in self.state[param].items():
                # loaded moments are where the checkpoint was, and perhaps in half precision
                state[key] = value.to(copy) if key in _MOMENTS else value
            # one dictionary, found by torch under the copy and by state_dict under the weight
            self.state[copy] = self.state[param] = state
            self._copies.append((param, copy))
            wide["params"].append(copy)
        return super()._init_group(wide, *lists)

    @torch.no_grad()
    def step(self, closure: Optional[Callable[[], Any]] = None) -> Any:
        """Update the weights; returns what ``closure`` returns."""
        self._copies = []
        loss = super().step(closure)
        for param, copy in self._copies:
            param.copy_(copy)
            # state_dict numbers the weights, and knows no number for a copy
            self.state[param] = self.state.pop(copy)
        self._copies = []
        return loss


@register_optimizer("radam", dataclass=RAdamConfig)
class FairseqRAdam(FairseqOptimizer):
    """torch's RAdam behind fairseq's optimizer interface."""

    def __init__(self, cfg: Any, params: Iterable[Tensor]) -> None:
        super().__init__(cfg)
        self._optimizer = Float32StateRAdam(params, **self.optimizer_config)

    @property
    def optimizer_config(self) -> dict[str, Any]:
        """Settings that win over those stored in a checkpoint when training resumes."""
        lr = self.cfg.lr
        # the command line gives the text "(0.9, 0.98)", hydra a list
        betas = utils.eval_str_list(str(self.cfg.adam_betas).strip("()[]"), type=float)
        return {
            # fairseq's list has a rate an epoch; its scheduler sets the later ones
            "lr": lr[0] if isinstance(lr, Sequence) else lr,
            "betas": tuple(betas),
            "eps": self.cfg.adam_eps,
            "weight_decay": self.cfg.weight_decay,
            "decoupled_weight_decay": True,
        }

    @property
    def supports_memory_efficient_fp16(self) -> bool:
        """Whether weights may be half precision, without float32 copies (see Float32StateRAdam)."""
        return True

    @property
    def supports_flat_params(self) -> bool:
        """Whether weights may be slices of one flat tensor."""
        return True
