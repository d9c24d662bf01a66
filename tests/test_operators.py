"""What a training step does, counted: operators and bytes that are kept for the backward pass.

Seconds depend on the machine and its neighbours; these do not. A step that does more than before
fails here.
"""

import pytest
import torch
from fairseq.criterions import CRITERION_REGISTRY
from torch.utils._python_dispatch import TorchDispatchMode

from admin_fairseq.criterion import NAME
from tests.helpers import adaptive, batch, build, task

PLAIN = "label_smoothed_cross_entropy"
TYPES, SENTENCES, LENGTH = 3000, 8, 10


class Operators(TorchDispatchMode):
    """Counts operators that compute or copy."""

    def __init__(self):
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, function, kinds, args=(), kwargs=None):
        self.count += not function.is_view
        return function(*args, **(kwargs or {}))


def step(model, name):
    """Operators of forward and backward pass, and bytes kept between them, weights not counted."""
    sample = batch(TYPES, SENTENCES, LENGTH, LENGTH, padding=False)
    criterion = CRITERION_REGISTRY[name](task(TYPES), sentence_avg=False, label_smoothing=0.1)
    model.zero_grad()  # or gradients would be added to those of the step before
    known = {weight.untyped_storage().data_ptr() for weight in model.parameters()}
    kept = {}

    def keep(tensor):
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in known:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with Operators() as operators:
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            loss = criterion(model, sample)[0]
        loss.backward()
    return operators.count, sum(kept.values())


FLAGS = {"on_task": task(TYPES), "share_all_embeddings": True, "layers": (3, 3)}


@pytest.fixture(scope="module")
def steps():
    stock, admin = build("transformer", **FLAGS), adaptive(**FLAGS)
    return {
        "fairseq": step(stock, PLAIN),
        "admin": step(admin, PLAIN),
        "fused": step(admin, NAME),
    }


def test_omegas_cost_five_operators_a_site(steps):
    """The gradients of both factors of a product. Forwards, a sum is a sum with a product."""
    sites = 3 * (2 + 3)
    assert steps["admin"][0] - steps["fairseq"][0] <= 5 * sites
    # omega's gradient needs the shortcut, which other layers keep already
    assert steps["admin"][1] <= 1.02 * steps["fairseq"][1]


def test_the_fused_loss_keeps_nothing_as_wide_as_the_vocabulary(steps):
    positions = SENTENCES * LENGTH
    saved = steps["admin"][1] - steps["fused"][1]
    assert saved > 0.95 * positions * TYPES * 4, "log-probabilities, in float32"
    assert steps["fused"][0] <= steps["admin"][0] + 12
