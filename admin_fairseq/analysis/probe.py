"""Looking at residual sites: what enters them in a forward pass, and which weights belong to them."""

import contextlib
import math
from collections import OrderedDict

import torch
from torch import nn

from ..errors import AdminError
from ..profile.data import stack_of
from ..profile.measure import positions_that_count
from ..residual import branch_matrices, named_sites

# name of a site in its layer -> the LayerNorm before or after it
LAYER_NORMS = {
    "self_attn_residual": "self_attn_layer_norm",
    "encoder_attn_residual": "encoder_attn_layer_norm",
    "ffn_residual": "final_layer_norm",
}

# what is kept of every site: a 100-100 model of C = 512 then takes 4 GB in float64, however large its batch
MAX_POSITIONS = 1024


class Site:
    """A residual site with its surroundings.

    Attributes:
        name: module path, ``encoder.layers.3.ffn_residual``.
        stack: ``encoder`` or ``decoder``.
        layer: number of its layer, from 0.
        residual: the module.
        matrices: the weight matrices of its branch: no biases, no LayerNorms.
        norm_after: the LayerNorm that reads the sum, or None (Pre-LN, ReZero).
    """

    def __init__(self, name, residual, layer):
        self.name, self.residual = name, residual
        self.stack, self.layer = stack_of(name), int(name.split(".")[2])
        role = name.rsplit(".", 1)[1]
        self.matrices = branch_matrices(layer, role)
        norm = getattr(layer, LAYER_NORMS[role])
        self.norm_after = None if layer.normalize_before or isinstance(norm, nn.Identity) else norm


def sites_of(model):
    """Return ``{stack: [Site]}`` of a model, in forward order."""
    stacks = OrderedDict(encoder=[], decoder=[])
    for name, residual in named_sites(model).items():
        site = Site(name, residual, model.get_submodule(name.rsplit(".", 1)[0]))
        stacks[site.stack].append(site)
    return stacks


class Pass:
    """What a forward pass left behind; positions are those of real tokens, P in all.

    Attributes:
        inputs: site name -> (branch, shortcut), each at most MAX_POSITIONS x C, before their scales; only of
            sites that ran.
        largest: site name -> the largest magnitude of its branch and of its shortcut, over all positions;
            NaN if one is not finite.
        sums: stack -> what its last site put out, at most MAX_POSITIONS x C, after its own LayerNorm if it has
            one, before that of the stack.
        outputs: stack -> its last output, P x C.
    """

    def __init__(self):
        self.inputs, self.largest = OrderedDict(), OrderedDict()
        self.sums, self.outputs = OrderedDict(), OrderedDict()


def run(model, sample, dropout=False, seed=1, with_inputs=True):
    """Run a forward pass without gradients and return a :class:`Pass`.

    Args:
        model: in float64; its mode is restored.
        sample: a fairseq batch.
        dropout: run in training mode, with the masks of ``seed``.
        with_inputs: keep what enters the sites.
    """
    keep = positions_that_count(model, sample)
    found = Pass()

    def record(name):
        def hook(site, inputs):
            both = [select(keep, stack_of(name), x) for x in inputs]
            found.inputs[name] = tuple(thinned(x) for x in both)
            found.largest[name] = tuple(magnitude(x) for x in both)

        return hook

    with contextlib.ExitStack() as stack:
        stack.enter_context(torch.no_grad())
        stack.enter_context(mode(model, dropout, seed))
        if with_inputs:
            for name, site in named_sites(model).items():
                stack.callback(site.register_forward_pre_hook(record(name)).remove)

        for name, layers in (("encoder", model.encoder.layers), ("decoder", model.decoder.layers)):
            if with_inputs and len(layers):
                stack.callback(layers[-1].register_forward_hook(take_sum(found, keep, name)).remove)

        def take_encoder(module, inputs, output):
            found.outputs["encoder"] = select(keep, "encoder", output["encoder_out"][0])

        stack.callback(model.encoder.register_forward_hook(take_encoder).remove)
        features, _ = model(**sample["net_input"], features_only=True)
        found.outputs["decoder"] = select(keep, "decoder", features.transpose(0, 1))
    return found


def take_sum(found, keep, stack):
    def hook(layer, inputs, output):
        x = output[0] if isinstance(output, tuple) else output
        found.sums[stack] = thinned(select(keep, stack, x))

    return hook


def select(keep, stack, x):
    """Return x at the positions of real tokens: T x B x C -> P x C."""
    x = x.detach()
    return x[keep[stack]] if stack in keep else x.reshape(-1, x.size(-1))


def thinned(x):
    """Return at most MAX_POSITIONS of the positions, evenly spaced: P x C -> at most MAX_POSITIONS x C."""
    if len(x) <= MAX_POSITIONS:
        return x
    return x[torch.linspace(0, len(x) - 1, MAX_POSITIONS, device=x.device).long()]


def magnitude(x):
    """Return the largest absolute value, or NaN if something is not finite."""
    largest = float(x.abs().max())
    return largest if math.isfinite(largest) else math.nan


@contextlib.contextmanager
def mode(model, dropout, seed):
    """Put the model into evaluation mode, or with ``dropout`` into training mode with a seed of its own."""
    was_training = model.training
    devices = list({p.device for p in model.parameters() if p.device.type == "cuda"})
    model.train(dropout)
    try:
        with torch.random.fork_rng(devices=devices):
            torch.manual_seed(seed)
            yield
    finally:
        model.train(was_training)


def check_finite(found, name):
    """Refuse to go on with NaN or infinity, and say where it began.

    Raises:
        AdminError: naming the first site.
    """
    where = first_non_finite(found)
    if where:
        raise AdminError(
            f"{name}: the forward pass is not finite from {where} on; 'admin-fairseq analyze stability' says more"
        )


def first_non_finite(found):
    """Return the first site of a pass that gets or puts out NaN or infinity, in words; None if none does."""
    for name, largest in found.largest.items():
        for what, value in zip(("branch", "shortcut"), largest):
            if math.isnan(value):
                return f"{name} ({what})"
    for stack, x in found.outputs.items():
        if not torch.isfinite(x).all():
            return f"the {stack}'s output"
    return None
