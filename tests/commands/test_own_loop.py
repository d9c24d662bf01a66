"""A training loop of one's own: omegas are measured there, or it is told how."""

import pytest
import torch

from admin_fairseq import training
from admin_fairseq.errors import AdminError
from admin_fairseq.model import AdminTransformerModel
from admin_fairseq.profile.file import save
from admin_fairseq.profile.fill import apply_profile
from admin_fairseq.profile.measure import profile_omega
from admin_fairseq.sites import first_sites, named_omegas
from scripts.edit_omegas import edit
from tests.helpers import adaptive, arguments, batch, build, dictionary


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


def test_a_model_from_a_profile_is_filled_by_one_call(tmp_path):
    flags = dict(init_type="adaptive", admin_profile=str(tmp_path / "p"), freeze_first_omega=True)
    save(profile_omega(adaptive(), batch()), flags["admin_profile"])
    model = build(**flags)
    training.set_up(model)
    step(model)
    omegas = named_omegas(model)
    assert model.flags.admin_omega == pytest.approx({n: float(o[0]) for n, o in omegas.items()})
    frozen = [name for name, omega in omegas.items() if not omega.requires_grad]
    assert frozen == first_sites(omegas)


def test_a_profile_of_ones_counts_as_set(tmp_path):
    path = str(tmp_path / "p")
    save(edit(profile_omega(adaptive(), batch()), "ones"), path)
    model = build(init_type="adaptive", admin_profile=path)
    training.set_up(model)
    step(model)
    assert all(omega.eq(1).all() for omega in named_omegas(model).values())


def profiled(tmp_path, **flags):
    """Return a model whose omegas come from a file, set up for training."""
    path = str(tmp_path / "p")
    save(profile_omega(adaptive(), batch()), path)
    model = build(init_type="adaptive", admin_profile=path, **flags)
    training.set_up(model)
    return model


def test_frozen_omegas_stay_as_the_profile_has_them(tmp_path):
    model = profiled(tmp_path, freeze_omega=True)
    before = {name: omega.clone() for name, omega in named_omegas(model).items()}
    assert len(set(map(float, model.flags.admin_omega.values()))) > 1
    optimizer = torch.optim.Adam(p for p in model.parameters() if p.requires_grad)
    for _ in range(2):
        step(model)
        optimizer.step()
    after = named_omegas(model)
    assert [name for name in before if not torch.equal(before[name], after[name])] == []
    assert not any(omega.requires_grad for omega in after.values())


def test_frozen_at_one_is_plain_post_ln_bit_for_bit():
    scaled, plain = adaptive(freeze_omega=True), build(init_type="default")
    assert not any(omega.requires_grad for omega in named_omegas(scaled).values())
    for model in (scaled, plain):
        optimizer = torch.optim.Adam(p for p in model.parameters() if p.requires_grad)
        for _ in range(3):
            step(model)
            optimizer.step()
            optimizer.zero_grad()
    trained = dict(scaled.named_parameters())
    for name, weight in plain.named_parameters():
        assert torch.equal(weight, trained[name]), name


def test_a_model_whose_profile_nobody_read_is_refused(tmp_path):
    model = build(init_type="adaptive", admin_profile=str(tmp_path / "p"))
    with pytest.raises(AdminError, match="--init-type adaptive: .*\n.*profile_omega") as error:
        step(model)
    assert "set_up(model)" in str(error.value)
    with pytest.raises(AdminError, match="p: no such profile"):
        training.set_up(model)


def test_a_task_needs_no_train_step():
    class Dictionaries:
        source_dictionary = target_dictionary = dictionary()

    step(AdminTransformerModel.build_model(arguments(init_type="deepnet"), Dictionaries()))
