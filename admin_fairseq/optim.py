"""``--optimizer radam``: rectified Adam (Liu et al., ICLR 2020, arXiv 1908.03265), the papers' optimizer.

fairseq has none; torch's is used. It is element-wise, so that it runs on fairseq's flat float32
master weights (``--fp16``, ``--bf16``) as it does on the weights themselves.
"""

from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any, List

import torch
from fairseq import utils
from fairseq.dataclass import FairseqDataclass
from fairseq.optim import FairseqOptimizer, register_optimizer
from omegaconf import II


@dataclass
class RAdamConfig(FairseqDataclass):
    """Flags with the names that fairseq's Adam has, so that recipes carry over."""

    adam_betas: Any = field(default=(0.9, 0.999), metadata={"help": "betas for the RAdam optimizer"})
    adam_eps: float = field(default=1e-8, metadata={"help": "epsilon for the RAdam optimizer"})
    weight_decay: float = field(
        default=0.0, metadata={"help": "weight decay, decoupled as in AdamW (and in the authors' RAdam)"}
    )
    lr: List[float] = II("optimization.lr")


@register_optimizer("radam", dataclass=RAdamConfig)
class FairseqRAdam(FairseqOptimizer):
    """torch.optim.RAdam behind fairseq's optimizer interface."""

    def __init__(self, cfg, params):
        super().__init__(cfg)
        self._optimizer = torch.optim.RAdam(params, **self.optimizer_config)

    @property
    def optimizer_config(self):
        """Settings that win over those stored in a checkpoint when training resumes."""
        lr = self.cfg.lr
        return {
            "lr": lr[0] if isinstance(lr, Collection) else lr,
            "betas": tuple(utils.eval_str_list(str(self.cfg.adam_betas).strip("()[]"), type=float)),
            "eps": self.cfg.adam_eps,
            "weight_decay": self.cfg.weight_decay,
            "decoupled_weight_decay": True,
        }

    @property
    def supports_flat_params(self):
        return True
