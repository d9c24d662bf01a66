"""``--trace-interval N``: what the residual sites do during training, in fairseq's own log.

At every N-th update these are measured at each site, on the update's last batch. Every log line
(``--log-interval``) shows the latest, by the name ``omega_mean/encoder.layers.0.ffn_residual``, and
``traced_update``, the update that it was measured at:

    omega_mean, omega_min, omega_max    over the C elements, where the site has an omega
    beta           standard deviation of the branch over that of the sum: how much the output
                   depends on this branch (the diagonal of the layer dependency, see
                   ``analysis.dependency``, but for the means over channels, which are not taken
                   off here)
    output_std     standard deviation of the sum, before its LayerNorm
    gradient_norm  of the matrices of the branch, as the optimizer gets it: averaged over the
                   update's tokens, clipped, without fp16's loss scale

Variances are over real tokens. ``--tensorboard-logdir`` draws all of it. fairseq-hydra-train does
not tell a model its log interval: there the figures are logged when they are measured.
"""

from __future__ import annotations

import math
from argparse import Namespace
from collections.abc import Callable
from typing import Any

import torch
from fairseq.logging import metrics
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from .profile.first_step import is_distributed
from .profile.measure import positions_that_count, variance
from .residual import Residual
from .sites import branch_matrices, named_sites, stack_of


def trace_training(model: nn.Module, args: Namespace, task: Any) -> None:
    """Have what ``task`` trains ``model`` with measured and logged, in the first process only."""
    tracer = Tracer(model, args.trace_interval, getattr(args, "log_interval", None))
    train_step, optimizer_step = task.train_step, task.optimizer_step

    def traced_train_step(
        sample: Any,
        model: nn.Module,
        criterion: Any,
        optimizer: Any,
        update_num: int,
        *rest: Any,
        **named: Any,
    ) -> Any:
        tracer.begin_step(model, sample, update_num)
        try:
            return train_step(sample, model, criterion, optimizer, update_num, *rest, **named)
        finally:
            # also after CUDA's out of memory, which fairseq swallows
            tracer.unhook()

    def traced_optimizer_step(optimizer: Any, model: nn.Module, update_num: int) -> Any:
        # before the step: gradients are summed over the processes, clipped, and still there
        tracer.end_update(optimizer, update_num)
        return optimizer_step(optimizer, model=model, update_num=update_num)

    task.train_step, task.optimizer_step = traced_train_step, traced_optimizer_step


class Tracer:
    """Measures at the sites when it is due, and logs what it measured last.

    ``update_num`` is fairseq's: the number of updates before this one.

    Args:
        model: as it was built, not wrapped.
        interval: updates between two measurements.
        log_interval: updates between two lines of fairseq's log; None where it is not known.
    """

    def __init__(self, model: nn.Module, interval: int, log_interval: int | None) -> None:
        self.model = model
        self.interval = interval
        self.log_interval = log_interval
        self.sites = named_sites(model)
        self._handles: list[RemovableHandle] = []
        self._activations: dict[str, Tensor] = {}
        self._latest: dict[str, float] = {}

    def is_due(self, update_num: int) -> bool:
        """Whether this update is one that is measured, and this process the one that does it."""
        return (update_num + 1) % self.interval == 0 and _is_first_process()

    def begin_step(self, wrapped: nn.Module, sample: Any, update_num: int) -> None:
        """Watch the sites during this batch, if its update is due."""
        # trainers wrap the model, and some tasks train several
        is_ours = any(module is self.model for module in wrapped.modules())
        if not is_ours or not self.is_due(update_num):
            return
        # each batch of an update comes by here: with --update-freq the last one stays
        self._activations.clear()
        keep = {}
        if sample and "net_input" in sample:
            keep = positions_that_count(self.model, sample)
        for name, site in self.sites.items():
            hook = self._watch(name, keep.get(stack_of(name)))
            self._handles.append(site.register_forward_hook(hook))

    def _watch(
        self, name: str, keep: Tensor | None
    ) -> Callable[[Residual, tuple[Tensor, Tensor], Tensor], None]:
        def measure(site: Residual, inputs: tuple[Tensor, Tensor], output: Tensor) -> None:
            with torch.no_grad():
                scale = torch.as_tensor(site.branch_scale).float()
                # the branch as it enters the sum: only ReZero's comes scaled
                branch = variance(inputs[0], keep) * scale.pow(2).mean()
                total = variance(output, keep)
                # left on the device: a transfer here would wait for it at every site
                self._activations[name] = torch.stack([(branch / total).sqrt(), total.sqrt()])

        return measure

    def unhook(self) -> None:
        """Leave the sites alone again."""
        while self._handles:
            self._handles.pop().remove()

    def end_update(self, optimizer: Any, update_num: int) -> None:
        """Measure the update's gradients, and log the latest figures where a line is due."""
        due = self.is_due(update_num)
        if due and self._activations:
            gradient_scale = getattr(optimizer, "_multiply_factor", 1.0)
            self._latest = {"traced_update": update_num + 1, **self._collect(gradient_scale)}
        line_is_due = due
        if self.log_interval:
            # where fairseq writes a line: it would average what it is told in between
            line_is_due = (update_num + 1) % self.log_interval == 0
        if line_is_due:
            for name, value in self._latest.items():
                metrics.log_scalar(name, value)

    @torch.no_grad()
    def _collect(self, gradient_scale: float) -> dict[str, float]:
        """Return ``{figure/site: value}`` of what is finite.

        Args:
            gradient_scale: what the optimizer still has to multiply the gradients by (fairseq's
                half-precision optimizers put that off).
        """
        figures: dict[str, Tensor] = {}
        for name, site in self.sites.items():
            if site.omega is not None:
                omega = site.omega.float()
                figures[f"omega_mean/{name}"] = omega.mean()
                figures[f"omega_min/{name}"] = omega.min()
                figures[f"omega_max/{name}"] = omega.max()
            if name in self._activations:
                beta, output_std = self._activations[name]
                figures[f"beta/{name}"] = beta
                figures[f"output_std/{name}"] = output_std
            figures[f"gradient_norm/{name}"] = self._gradient_norm(name) * gradient_scale
        # everything comes from the device in one piece
        values = torch.stack([figure.float() for figure in figures.values()]).tolist()
        found: dict[str, float] = {}
        for name, value in zip(figures, values):
            if math.isfinite(value):
                found[name] = value
        return found

    def _gradient_norm(self, name: str) -> Tensor:
        """Return the norm of the gradient of the site's matrices, as a scalar tensor."""
        layer_path, _, role = name.rpartition(".")
        layer = self.model.get_submodule(layer_path)
        square = torch.zeros((), device=next(self.model.parameters()).device)
        for weight in branch_matrices(layer, role):
            if weight.grad is not None:
                square = square + weight.grad.float().pow(2).sum()
        return square.sqrt()


def _is_first_process() -> bool:
    """Whether this is the first of the processes that train together, or the only one."""
    return not is_distributed() or torch.distributed.get_rank() == 0
