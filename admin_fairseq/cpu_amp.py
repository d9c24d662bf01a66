"""``--cpu --amp``: matrix products in bfloat16 over float32 weights, where there is no GPU.

fairseq's ``--amp`` is float16 on NVIDIA's GPUs; on a CPU it trained in float32 and said nothing.
Here the forward pass of every training step runs in torch's autocast, with bfloat16. It has
float32's range, so that no loss is scaled.

- Linear maps, and the products of cross-attention, take and give bfloat16; their sums are float32
  within a product. Dropout and activations of a branch follow what it has: a branch f(x) ends in
  bfloat16.
- Weights, their gradients and the optimizer's state are float32.
- The residual stream is float32: embeddings are, and what a site adds is (omega * x is float32, and
  torch promotes the sum). So are LayerNorm, its statistics, and log-softmax and loss. What Admin
  measures are variances of branches that are rounded once, and the recursion is not rounded.
- Attention as one operator (``scaled_dot_product_attention``, which fairseq's self-attention takes)
  computes in float32: torch's bfloat16 kernel for CPUs takes 13 times as long in the backward pass,
  at 32 tokens and 16 channels a head (docs/speed.md).
- Validation, and translating while training, are in float32, as with fairseq's ``--amp``.

A task with a ``train_step`` of its own that does not call fairseq's has no autocast, as in fairseq.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import platform
import warnings
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
from fairseq.modules.checkpoint_activations import CheckpointFunction
from fairseq.optim import FairseqOptimizer
from fairseq.optim.amp_optimizer import AMPOptimizer
from fairseq.tasks.fairseq_task import FairseqTask
from torch import Tensor
from torch.nn import functional

from .compat.marks import is_mended, mark
from .errors import raise_all

logger = logging.getLogger(__name__)

# embedding dimension from which on a step was faster (docs/speed.md)
FASTER_FROM = 128
_NAME = "cpu_amp"


class CpuAmpOptimizer(AMPOptimizer):
    """fairseq's wrapper of an optimizer for ``--amp``, without scaling of the loss."""

    #: by this, and not by the class: of two copies of the package one makes it, and both ask
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
        norm = self.fp32_optimizer.clip_grad_norm(max_norm, aggregate_norm_fn)
        if not torch.isfinite(norm).all():
            raise FloatingPointError("gradients are Nan/Inf")
        return norm


# checkpoints hold the name of the optimizer's class, and fairseq does not go on with another one
CpuAmpOptimizer.__name__ = AMPOptimizer.__name__


def install() -> None:
    """Have ``--amp`` mean bfloat16 where weights are on a CPU. Twice changes nothing."""
    if is_mended(FairseqTask.train_step, by=_NAME):
        return
    build = AMPOptimizer.build_optimizer.__func__
    train_step = FairseqTask.train_step
    forward = CheckpointFunction.forward

    @functools.wraps(build)
    def build_for_device(cls: Any, cfg: Any, params: Iterable[Tensor], **named: Any) -> Any:
        params = list(params)
        if all(param.device.type == "cpu" for param in params):
            cls = CpuAmpOptimizer
        return build(cls, cfg, params, **named)

    @functools.wraps(train_step)
    def train_in_autocast(
        self: FairseqTask,
        sample: Any,
        model: Any,
        criterion: Any,
        optimizer: Any,
        *rest: Any,
        **named: Any,
    ) -> Any:
        if is_on(optimizer):
            # the backward pass stays outside, as torch asks for
            criterion = _in_autocast(criterion)
        return train_step(self, sample, model, criterion, optimizer, *rest, **named)

    @functools.wraps(forward)
    def forward_and_again(ctx: Any, run: Callable[..., Any], *inputs: Any) -> Any:
        if torch.is_autocast_enabled("cpu"):
            # fairseq would compute a layer again, for its gradient, in float32
            run = _in_autocast(run)
        return forward(ctx, run, *inputs)

    AMPOptimizer.build_optimizer = classmethod(mark(build_for_device, by=_NAME))
    FairseqTask.train_step = mark(train_in_autocast, by=_NAME)
    CheckpointFunction.forward = staticmethod(mark(forward_and_again, by=_NAME))


def is_on(optimizer: Any) -> bool:
    """Whether an optimizer is one whose forward pass runs in :func:`autocast`."""
    return getattr(optimizer, "in_bfloat16", False)


def _in_autocast(run: Callable[..., Any]) -> Callable[..., Any]:
    """Return ``run`` as a function that runs it in :func:`autocast`."""

    def in_autocast(*inputs: Any, **named: Any) -> Any:
        with autocast():
            return run(*inputs, **named)

    return in_autocast


@contextlib.contextmanager
def autocast() -> Iterator[None]:
    """Run what follows as the forward pass of ``--cpu --amp`` runs; see the module's text."""
    attention = functional.scaled_dot_product_attention
    # by the name that torch's own attention looks up: autocast's list cannot be changed for a while
    functional.scaled_dot_product_attention = _in_float32(attention)
    try:
        with torch.autocast("cpu", torch.bfloat16):
            yield
    finally:
        functional.scaled_dot_product_attention = attention


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


def check(cfg: Any) -> None:
    """Say what ``--amp`` does in a training on a CPU, and where it is slower than float32.

    Args:
        cfg: fairseq's configuration of a training; nothing is said of one without ``--amp``, or on
            a GPU.

    Raises:
        AdminError: if weights would be half-precision as well.
    """
    common = cfg.common
    on_cpu = (common.cpu or not torch.cuda.is_available()) and not getattr(common, "tpu", False)
    if not (getattr(common, "amp", False) and on_cpu):
        return
    problems: list[str] = []
    for flag in ("fp16", "bf16"):
        if getattr(common, flag, False):
            problems.append(f"--{flag}: weights would be in half precision; leave one of them out")
    raise_all("--amp, which has float32 weights, cannot work with:", problems)
    # fairseq enters CUDA's autocast too, and torch would say that nothing is gained
    warnings.filterwarnings("ignore", message=".*CUDA is not available", category=UserWarning)
    logger.info("--amp on the CPU: bfloat16 autocast over float32 weights")
    if has_fast_bfloat16() is False:
        logger.warning(
            "--amp: this CPU has no instructions for bfloat16 (AVX512-BF16 or AMX), and torch "
            "works without them: it is likely slower than training without --amp"
        )
    dim = getattr(cfg.model, "encoder_embed_dim", None)
    if isinstance(dim, int) and dim < FASTER_FROM:
        logger.warning(
            "--amp: with --encoder-embed-dim %d it is likely no faster on a CPU, where it gains "
            "from about %d on; leave it out",
            dim,
            FASTER_FROM,
        )


def has_fast_bfloat16() -> bool | None:
    """Whether this CPU multiplies bfloat16 in instructions of its own; None where unknown."""
    try:
        if platform.machine().lower() in ("x86_64", "amd64"):
            # oneDNN's own answer is yes for AVX512 alone, where it is slower than float32
            return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())
        return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
    except (AttributeError, RuntimeError):  # another torch
        return None
