"""``--trace-interval N``: what the residual sites do during training, in fairseq's own log.

Every N updates these are measured at each site, on the update's first batch, and every log line
(``--log-interval``) shows the latest, by the name ``omega_mean/encoder.layers.0.ffn_residual``:

    omega_mean, omega_min, omega_max    over the C elements, where the site has an omega
    beta            standard deviation of the branch over that of the sum: how much the output depends on
                    this branch (the diagonal of the layer dependency, see ``analysis.dependency``, but for the
                    means over channels, which are not taken off here)
    output_std      standard deviation of the sum, before its LayerNorm
    gradient_share  squared norm of the gradient of the branch's matrices, as a share of all branches'

Variances are over real tokens. The share, unlike a norm, is the same under fp16's loss scaling.
``--tensorboard-logdir`` draws them. The gradient is looked at where the trainer hands it to the optimizer.
"""

from collections import OrderedDict

import torch
from fairseq.logging import metrics

from .profiling import positions_that_count, variance
from .residual import BRANCHES, named_sites, stack_of


def trace_training(model, args, task):
    """Have what ``task`` trains ``model`` with measured and logged, in the first process only."""
    tracer = Tracer(model, args.trace_interval, getattr(args, "log_interval", None) or 100)
    train_step, optimizer_step = task.train_step, task.optimizer_step

    def traced_train_step(sample, model, criterion, optimizer, update_num, *rest, **named):
        due = tracer.begins(model, sample, update_num)
        try:
            return train_step(sample, model, criterion, optimizer, update_num, *rest, **named)
        finally:
            if due:
                tracer.unhook()

    def traced_optimizer_step(optimizer, model, update_num):
        tracer.ends(update_num)
        return optimizer_step(optimizer, model=model, update_num=update_num)

    task.train_step, task.optimizer_step = traced_train_step, traced_optimizer_step


class Tracer:
    """Measures at the sites when it is due, and logs what it measured last."""

    def __init__(self, model, interval, log_interval):
        self.model, self.interval, self.log_interval = model, interval, log_interval
        self.sites = named_sites(model)
        self.handles, self.activations, self.latest = [], {}, OrderedDict()
        self.measuring = None  # the update that is being measured

    def begins(self, wrapped, sample, update_num):
        """Watch the sites during this batch, if it is the first one of an update that is due."""
        due = update_num % self.interval == 0 and self.measuring != update_num and is_first_process()
        if not due or not any(module is self.model for module in wrapped.modules()):
            return False
        self.measuring = update_num
        self.activations.clear()
        keep = positions_that_count(self.model, sample) if "net_input" in (sample or {}) else {}
        for name, site in self.sites.items():
            self.handles.append(site.register_forward_hook(self.watch(name, keep.get(stack_of(name)))))
        return True

    def watch(self, name, keep):
        def measure(site, inputs, output):
            with torch.no_grad():
                branch = variance(inputs[0], keep) * torch.as_tensor(site.branch_scale).float().pow(2).mean()
                total = variance(output, keep)
                self.activations[name] = torch.stack([(branch / total).sqrt(), total.sqrt()])

        return measure

    def unhook(self):
        while self.handles:
            self.handles.pop().remove()

    def ends(self, update_num):
        """Take the gradients of the update, and put the latest figures into the log if a line is due."""
        if self.measuring == update_num:
            self.latest = self.collect()
            self.measuring = None
        if (update_num + 1) % self.log_interval == 0:
            for name, value in self.latest.items():
                metrics.log_scalar(name, value, round=5)

    @torch.no_grad()
    def collect(self):
        """Return ``{figure/site: value}``; everything comes from the device in one piece."""
        names, values = [], []

        def add(name, site_name, value):
            names.append(f"{name}/{site_name}")
            values.append(value.float())

        squares = OrderedDict((name, self.squared_gradient(name)) for name in self.sites)
        whole = sum(squares.values())
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
            add("gradient_share", name, squares[name] / whole)
        return OrderedDict(zip(names, torch.stack(values).tolist()))

    def squared_gradient(self, name):
        """Return the squared norm of the gradient of the site's branch, as a tensor."""
        path, site = name.rsplit(".", 1)
        layer = self.model.get_submodule(path)
        weights = [weight for part in BRANCHES[site] for weight in getattr(layer, part).parameters()]
        gradients = [weight.grad for weight in weights if weight.dim() == 2 and weight.grad is not None]
        zero = torch.zeros((), device=next(self.model.parameters()).device)
        return sum((gradient.float().pow(2).sum() for gradient in gradients), zero)


def is_first_process():
    distributed = torch.distributed
    return not (distributed.is_available() and distributed.is_initialized()) or distributed.get_rank() == 0
