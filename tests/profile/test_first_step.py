"""Stage 1 and adaptive-auto, at the first training step."""

import argparse

import pytest
import torch
from fairseq.optim.fp16_optimizer import FP16Optimizer

from admin_fairseq import training
from admin_fairseq.errors import AdminError
from admin_fairseq.profile import file as profile_file
from admin_fairseq.profile.master_weights import fill_master_weights
from admin_fairseq.sites import named_sites
from tests.helpers import adaptive, arguments, batch, build, build_from, task


class Optimizer:
    """Stands where fairseq hands its optimizer to task.train_step; keeps no master weights."""


def train_step(on_task, model, sample):
    return on_task.train_step(sample, model, lambda *_: "trained", Optimizer(), 0)


def prepare(tmp_path, init_type, monkeypatch, **flags):
    on_task = task()
    monkeypatch.setattr(
        type(on_task), "train_step", lambda self, sample, model, *_: "trained", raising=True
    )
    model = build(on_task=on_task, init_type=init_type, save_dir=str(tmp_path), **flags)
    training.prepare(model, on_task)  # as fairseq's trainer has it
    return on_task, model


def test_profiling_writes_the_file_and_exits_0(tmp_path, monkeypatch, caplog):
    on_task, model = prepare(tmp_path, "adaptive-profiling", monkeypatch, seed=5)
    with caplog.at_level("INFO"), pytest.raises(SystemExit) as end:
        train_step(on_task, model, batch())
    assert end.value.code == 0
    profile = profile_file.load(tmp_path / "admin.profile")
    assert list(profile.sites) == list(named_sites(model))
    for key in (
        "admin_fairseq",
        "fairseq",
        "torch",
        "numpy",
        "python",
        "architecture",
        "layers",
        "seed",
        "command",
    ):
        assert profile.provenance[key]
    assert profile.provenance["layers"] == "2-2" and profile.provenance["padding"] == "excluded"
    assert int(profile.provenance["target tokens"]) == batch()["ntokens"]
    assert "decoder.layers.1.encoder_attn_residual" in caplog.text
    assert all(torch.equal(site.omega, torch.ones(16)) for site in named_sites(model).values())


def test_auto_profiles_once_and_trains_on(tmp_path, monkeypatch):
    on_task, _ = prepare(tmp_path, "default", monkeypatch)
    args = arguments(init_type="adaptive-auto", save_dir=str(tmp_path))
    model = build_from(args, on_task)
    training.prepare(model, on_task)
    assert train_step(on_task, model, batch()) == "trained"
    omegas = {name: site.omega[0].item() for name, site in named_sites(model).items()}
    assert len(set(omegas.values())) == 9  # two ones, and all others differ
    assert {name: float(torch.tensor(omega)) for name, omega in args.admin_omega.items()} == omegas
    assert profile_file.load(tmp_path / "admin.profile").omega == pytest.approx(omegas)
    (tmp_path / "admin.profile").unlink()
    assert train_step(on_task, model, batch(seed=2)) == "trained"
    assert not (tmp_path / "admin.profile").exists()


def test_auto_leaves_restored_weights_alone(tmp_path, monkeypatch):
    on_task, model = prepare(tmp_path, "adaptive-auto", monkeypatch)
    model.load_state_dict(adaptive(omegas=[3.0] * 10).state_dict())
    assert train_step(on_task, model, batch()) == "trained"
    assert all(site.omega[0] == 3 for site in named_sites(model).values())
    assert not (tmp_path / "admin.profile").exists()


def test_profiling_refuses_restored_weights(tmp_path, monkeypatch):
    on_task, model = prepare(tmp_path, "adaptive-profiling", monkeypatch)
    model.load_state_dict(adaptive().state_dict())
    with pytest.raises(AdminError, match="of fresh weights"):
        train_step(on_task, model, batch())


def test_out_of_memory_is_an_error(tmp_path, monkeypatch):
    """fairseq skips a batch that runs out of memory: training would go on with omega = 1."""
    on_task, model = prepare(tmp_path, "adaptive-auto", monkeypatch)

    def fail(*_):
        raise RuntimeError("CUDA out of memory")

    model.decoder.register_forward_pre_hook(fail)
    with pytest.raises(AdminError, match="does not fit into memory; lower --max-tokens") as error:
        train_step(on_task, model, batch())
    assert "out of memory" not in str(error.value), "fairseq recognises what to skip by these words"


def test_only_the_model_that_trains_is_profiled(tmp_path, monkeypatch):
    on_task, model = prepare(tmp_path, "adaptive-auto", monkeypatch)
    assert train_step(on_task, build(init_type="default"), batch()) == "trained"
    assert not (tmp_path / "admin.profile").exists()
    wrapped = torch.nn.Sequential(model)
    train_step(on_task, wrapped, batch())
    assert (tmp_path / "admin.profile").exists()


def test_a_profile_that_cannot_be_written_is_an_error(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    on_task, model = prepare(
        tmp_path, "adaptive-profiling", monkeypatch, admin_profile=str(tmp_path / "file" / "p")
    )
    with pytest.raises(AdminError, match="--admin-profile .*cannot be written"):
        train_step(on_task, model, batch())


@pytest.mark.parametrize("init_type", ["adaptive-profiling", "adaptive-auto"])
def test_only_what_is_a_profile_is_overwritten(tmp_path, monkeypatch, init_type):
    path = tmp_path / "dict.txt"
    path.write_text("the 100\n")
    on_task, model = prepare(tmp_path, init_type, monkeypatch, admin_profile=str(path))
    with pytest.raises(
        AdminError, match="dict.txt: this file is not a profile, and is not overwritten"
    ):
        train_step(on_task, model, batch())
    assert path.read_text() == "the 100\n"
    path.write_text("# Admin profile. cut sh")
    try:
        train_step(on_task, model, batch())
    except SystemExit as end:
        assert end.code == 0
    assert len(profile_file.load(path).sites) == 10


def mixed_precision(flatten, dtype, monkeypatch):
    """A model and fairseq's optimizer with float32 master weights, built before omegas are set."""
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)  # the flat copy asks for it
    model = adaptive().to(dtype)
    params = [p for p in model.parameters() if p.requires_grad]
    cfg = argparse.Namespace(pipeline_model_parallel=False, distributed_no_spawn=False)
    optimizer = Optimizer()
    optimizer.fp16_params = params
    optimizer.fp32_params = FP16Optimizer.build_fp32_params(cfg, params, flatten=flatten)
    return model, optimizer


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("flatten", [True, False])
def test_master_weights_follow(flatten, dtype, monkeypatch):
    model, optimizer = mixed_precision(flatten, dtype, monkeypatch)
    with torch.no_grad():
        for site in named_sites(model).values():
            site.omega.fill_(1.75)
    fill_master_weights(optimizer, model, {name: 1.75 for name in named_sites(model)})
    params = optimizer.fp16_params
    if flatten:
        (master,) = optimizer.fp32_params.values()
        assert torch.equal(master.data, torch.cat([p.data.float().view(-1) for p in params]))
    else:
        assert all(
            torch.equal(m.data, p.data.float()) for m, p in zip(optimizer.fp32_params, params)
        )


def test_first_omega_can_be_frozen(tmp_path, monkeypatch):
    on_task, model = prepare(tmp_path, "adaptive-auto", monkeypatch, freeze_first_omega=True)
    train_step(on_task, model, batch())
    frozen = [name for name, site in named_sites(model).items() if not site.omega.requires_grad]
    assert frozen == ["encoder.layers.0.self_attn_residual", "decoder.layers.0.self_attn_residual"]
    assert all(named_sites(model)[name].omega.eq(1).all() for name in frozen)


def test_an_edited_profile_does_not_move_a_frozen_omega(tmp_path, monkeypatch):
    on_task, model = prepare(tmp_path, "adaptive-profiling", monkeypatch)
    with pytest.raises(SystemExit):
        train_step(on_task, model, batch())
    path = tmp_path / "admin.profile"
    path.write_text(
        path.read_text().replace(
            "encoder.layers.0.self_attn_residual\t1.0", "encoder.layers.0.self_attn_residual\t1.5"
        )
    )
    profile_file.renew_checksum(path)
    training.set_up(build(init_type="adaptive", admin_profile=str(path)))
    frozen = build(init_type="adaptive", admin_profile=str(path), freeze_first_omega=True)
    with pytest.raises(AdminError, match="omega 1.5, but --freeze-first-omega keeps it at 1"):
        training.set_up(frozen)
