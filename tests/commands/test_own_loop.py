"""A training loop of one's own: omegas are measured there, or it is told how."""

import pytest
import torch

from admin_fairseq.errors import AdminError
from admin_fairseq.profile.fill import apply_profile
from admin_fairseq.profile.measure import profile_omega
from tests.helpers import adaptive, batch, build


def step(model):
    model.train()
    logits, _ = model(**batch()["net_input"])
    logits.sum().backward()


@pytest.mark.parametrize("init_type", ["adaptive-auto", "adaptive-profiling"])
def test_training_with_omegas_that_nobody_measured_is_refused(init_type):
    model = build(init_type=init_type)
    with pytest.raises(AdminError, match=f"--init-type {init_type}.*\n.*profile_omega"):
        step(model)
    apply_profile(model, profile_omega(model, batch()))
    step(model)


@pytest.mark.parametrize("init_type", ["adaptive-auto", "adaptive-profiling"])
def test_a_restored_model_has_its_omegas(init_type):
    model = build(init_type=init_type)
    model.load_state_dict(adaptive().state_dict())
    step(model)


def test_looking_is_not_training():
    model = build(init_type="adaptive-auto")
    model.eval()
    model(**batch()["net_input"])
    model.train()
    with torch.no_grad():
        model(**batch()["net_input"])


@pytest.mark.parametrize("init_type", ["default", "analytic", "deepnet", "rezero"])
def test_other_init_types_need_nothing(init_type):
    step(build(init_type=init_type))
