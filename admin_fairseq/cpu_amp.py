"""``--cpu --amp``: training in bfloat16 autocast where there is no GPU.

fairseq's ``--amp`` is float16 on NVIDIA's GPUs; on a CPU it trains in float32, and says nothing.
Here the forward pass of a training step runs in :func:`~admin_fairseq.bfloat16.autocast`, and the
rest is as with ``--amp`` on a GPU: weights, gradients and the optimizer's state are float32, and
validation and translating are outside. bfloat16 has float32's range, so that no loss is scaled.

As in fairseq, a task whose own ``train_step`` does not call fairseq's has no autocast.
"""

from __future__ import annotations

import functools
import logging
import warnings
from collections.abc import Callable, Iterable
from typing import Any

import torch
from fairseq.modules.checkpoint_activations import CheckpointFunction
from fairseq.optim import FairseqOptimizer
from fairseq.optim.amp_optimizer import AMPOptimizer
from fairseq.tasks.fairseq_task import FairseqTask
from torch import Tensor

from .bfloat16 import has_fast_bfloat16, in_autocast
from .compat.marks import is_mended, mark
from .errors import raise_all

logger = logging.getLogger(__name__)

# the smallest embedding dimension at which a step was measured to be faster (docs/speed.md)
FASTER_FROM = 128
_NAME = "cpu_amp"  # of two copies of the package one does it


class CpuAmpOptimizer(AMPOptimizer):
    """fairseq's wrapper of an optimizer for ``--amp``, without scaling of the loss."""

    in_bfloat16 = True

    def __init__(self, cfg: Any, params: Any, fp32_optimizer: Any, **_: Any) -> None:
        # not the parent's: it would make a scaler for a GPU, or warn that there is none
        FairseqOptimizer.__init__(self, cfg.optimizer)
        self.fp32_optimizer = fp32_optimizer
        # fairseq's Trainer logs its scale, which is 1
        self._grad_scaler = torch.amp.GradScaler("cpu", enabled=False)
        self.min_loss_scale = cfg.common.min_loss_scale

    def multiply_grads(self, c: Any) -> None:
        """Multiply all gradients by ``c``, as the optimizer inside does it."""
        self.fp32_optimizer.multiply_grads(c)

    def clip_grad_norm(self, max_norm: float, aggregate_norm_fn: Any = None) -> Tensor:
        """Clip the gradients to a norm, and return what it was.

        Raises:
            FloatingPointError: if it is not finite, as without ``--amp``. With a scaled loss that
                would be an overflow, and the batch would be tried again.
        """
        norm: Tensor = self.fp32_optimizer.clip_grad_norm(max_norm, aggregate_norm_fn)
        if not torch.isfinite(norm).all():
            raise FloatingPointError("gradients are Nan/Inf")
        return norm


# checkpoints hold the name of the optimizer's class, and fairseq does not go on with another one
CpuAmpOptimizer.__name__ = AMPOptimizer.__name__


def install() -> None:
    """Have ``--amp`` mean bfloat16 where weights are on a CPU. Twice changes nothing."""
    if is_mended(FairseqTask.train_step, by=_NAME):
        return
    AMPOptimizer.build_optimizer = classmethod(_for_device(AMPOptimizer.build_optimizer.__func__))
    FairseqTask.train_step = _with_autocast(FairseqTask.train_step)
    CheckpointFunction.forward = staticmethod(_keeping_autocast(CheckpointFunction.forward))


def _for_device(build: Callable[..., Any]) -> Callable[..., Any]:
    """Return fairseq's ``build_optimizer``, making a :class:`CpuAmpOptimizer` on CPUs."""

    @functools.wraps(build)
    def build_for_device(cls: Any, cfg: Any, params: Iterable[Tensor], **named: Any) -> Any:
        params = list(params)
        if all(param.device.type == "cpu" for param in params):
            cls = CpuAmpOptimizer
        return build(cls, cfg, params, **named)

    return mark(build_for_device, by=_NAME)


def _with_autocast(train_step: Callable[..., Any]) -> Callable[..., Any]:
    """Return fairseq's ``train_step``; with a :class:`CpuAmpOptimizer`, forward in autocast."""

    @functools.wraps(train_step)
    def train_in_autocast(
        self: Any, sample: Any, model: Any, criterion: Any, optimizer: Any, *rest: Any, **named: Any
    ) -> Any:
        if getattr(optimizer, "in_bfloat16", False):
            # train_step does nothing with it but call it
            criterion = in_autocast(criterion)
        return train_step(self, sample, model, criterion, optimizer, *rest, **named)

    return mark(train_in_autocast, by=_NAME)


def _keeping_autocast(forward: Callable[..., Any]) -> Callable[..., Any]:
    """Return the forward pass of ``--checkpoint-activations``, also run again in autocast.

    fairseq runs a layer again in the backward pass, outside of the autocast that it was in.
    """

    @functools.wraps(forward)
    def forward_and_again(ctx: Any, run: Callable[..., Any], *inputs: Any) -> Any:
        if torch.is_autocast_enabled("cpu"):
            # when it runs again its inputs look like weights, and rounded copies of those that were
            # kept would add up their gradients in bfloat16
            run = in_autocast(run, cache=False)
        return forward(ctx, run, *inputs)

    return mark(forward_and_again, by=_NAME)


def check(cfg: Any) -> None:
    """Say what ``--amp`` does in a training on a CPU, and where it is slower than float32.

    Args:
        cfg: fairseq's configuration of a training; nothing is said of one without ``--amp``, or on
            a GPU.

    Raises:
        AdminError: if weights would be in half precision as well.
    """
    common = cfg.common
    on_cpu = (common.cpu or not torch.cuda.is_available()) and not common.tpu
    if not (common.amp and on_cpu):
        return
    problems: list[str] = []
    for flag in ("fp16", "bf16"):
        if getattr(common, flag):
            problems.append(f"--{flag}: weights would be in half precision; leave out one of both")
    raise_all("--amp, which is for float32 weights, cannot work with:", problems)
    # fairseq enters CUDA's autocast too, and torch would say that nothing comes of it
    warnings.filterwarnings("ignore", message=".*CUDA is not available", category=UserWarning)
    logger.info("--amp on a CPU: bfloat16 autocast over float32 weights")
    if has_fast_bfloat16() is False:
        logger.warning(
            "--amp: this CPU has no instructions for bfloat16 (AVX512-BF16, AMX), so that training "
            "is likely slower with it than without"
        )
    dim = getattr(cfg.model, "encoder_embed_dim", None)
    if isinstance(dim, int) and dim < FASTER_FROM:
        logger.warning(
            "--amp: with --encoder-embed-dim %d training is likely no faster on a CPU; it is from "
            "about %d on",
            dim,
            FASTER_FROM,
        )
