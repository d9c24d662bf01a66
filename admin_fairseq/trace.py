"""``--trace-interval N``: what the residual sites do during training, in fairseq's own log.

At every N-th update these are measured at each site, on the update's last batch. Every log line
(``--log-interval``) shows the latest, by the name ``omega_mean/encoder.layers.0.ffn_residual``, and
``traced_update``, the update that it was measured at:

    omega_mean, omega_min, omega_max    over the C elements, where the site has an omega
    beta           standard deviation of the branch over that of the sum: how much the output depends on this
                   branch (the diagonal of the layer dependency, see ``analysis.dependency``, but for the means
                   over channels, which are not taken off here)
    output_std     standard deviation of the sum, before its LayerNorm
    gradient_norm  of the matrices of the branch, as the optimizer gets it: averaged over the update's tokens,
                   clipped, without fp16's loss scale

Variances are over real tokens. ``--tensorboard-logdir`` draws all of it. fairseq-hydra-train does not tell
a model its log interval: there the figures are logged when they are measured.
"""

import math
from collections import OrderedDict

import torch
from fairseq.logging import metrics

from .profile.data import stack_of
from .profile.first_step import is_distributed
from .profile.measure import positions_that_count, variance
from .residual import branch_matrices, named_sites


def trace_training(model, args, task):
    """Have what ``task`` trains ``model`` with measured and logged, in the first process only."""
    tracer = Tracer(model, args.trace_interval, getattr(args, "log_interval", None))
    train_step, optimizer_step = task.train_step, task.optimizer_step

    def traced_train_step(sample, model, criterion, optimizer, update_num, *rest, **named):
        tracer.begins(model, sample, update_num)
        try:
            return train_step(sample, model, criterion, optimizer, update_num, *rest, **named)
        finally:
            tracer.unhook()

    def traced_optimizer_step(optimizer, model, update_num):
        tracer.ends(optimizer, update_num)
        return optimizer_step(optimizer, model=model, update_num=update_num)

    task.train_step, task.optimizer_step = traced_train_step, traced_optimizer_step


class Tracer:
    """Measures at the sites when it is due, and logs what it measured last.

    ``update_num`` is fairseq's: the number of updates before this one.
    """

    def __init__(self, model, interval, log_interval):
        self.model, self.interval, self.log_interval = model, interval, log_interval
        self.sites = named_sites(model)
        self.handles, self.activations, self.latest = [], {}, OrderedDict()

    def is_due(self, update_num):
        return (update_num + 1) % self.interval == 0 and is_first_process()

    def begins(self, wrapped, sample, update_num):
        """Watch the sites during this batch, if its update is due."""
        if not self.is_due(update_num) or not any(
            module is self.model for module in wrapped.modules()
        ):
            return
        self.activations.clear()
        keep = positions_that_count(self.model, sample) if "net_input" in (sample or {}) else {}
        for name, site in self.sites.items():
            self.handles.append(
                site.register_forward_hook(self.watch(name, keep.get(stack_of(name))))
            )

    def watch(self, name, keep):
        def measure(site, inputs, output):
            with torch.no_grad():
                branch = (
                    variance(inputs[0], keep)
                    * torch.as_tensor(site.branch_scale).float().pow(2).mean()
                )
                total = variance(output, keep)
                self.activations[name] = torch.stack([(branch / total).sqrt(), total.sqrt()])

        return measure

    def unhook(self):
        while self.handles:
            self.handles.pop().remove()

    def ends(self, optimizer, update_num):
        """Take the gradients of the update, and put the latest figures into the log if a line is due."""
        due = self.is_due(update_num)
        if due and self.activations:
            self.latest = OrderedDict(traced_update=update_num + 1)
            self.latest.update(self.collect(getattr(optimizer, "_multiply_factor", 1.0)))
        if (update_num + 1) % self.log_interval == 0 if self.log_interval else due:
            for name, value in self.latest.items():
                metrics.log_scalar(name, value)

    @torch.no_grad()
    def collect(self, gradient_scale):
        """Return ``{figure/site: value}`` of what is finite; everything comes from the device in one piece.

        Args:
            gradient_scale: what the optimizer still has to multiply the gradients by (fairseq's half-precision
                optimizers put that off).
        """
        names, values = [], []

        def add(name, site_name, value):
            names.append(f"{name}/{site_name}")
            values.append(torch.as_tensor(value).float())

        for name, site in self.sites.items():
            if site.omega is not None:
                omega = site.omega.float()
                add("omega_mean", name, omega.mean())
                add("omega_min", name, omega.min())
                add("omega_max", name, omega.max())
            if name in self.activations:
                beta, output_std = self.activations[name]
                add("beta", name, beta)
                add("output_std", name, output_std)
            add("gradient_norm", name, self.gradient_norm(name) * gradient_scale)
        found = zip(names, torch.stack(values).tolist())
        return OrderedDict((name, value) for name, value in found if math.isfinite(value))

    def gradient_norm(self, name):
        """Return the norm of the gradient of the site's matrices, as a tensor."""
        path, role = name.rsplit(".", 1)
        matrices = branch_matrices(self.model.get_submodule(path), role)
        gradients = [weight.grad for weight in matrices if weight.grad is not None]
        zero = torch.zeros((), device=next(self.model.parameters()).device)
        return sum((gradient.float().pow(2).sum() for gradient in gradients), zero).sqrt()


def is_first_process():
    return not is_distributed() or torch.distributed.get_rank() == 0
