"""Filling omegas: all of them or none, unrounded where fairseq keeps float32 copies.

And what is said if they cannot be filled.
"""

import math
from argparse import Namespace
from collections import OrderedDict

import pytest
import torch
from fairseq.dataclass.configs import FairseqConfig
from fairseq.optim.adam import FairseqAdamConfig
from fairseq.optim.fp16_optimizer import FP16Optimizer, MemoryEfficientFP16Optimizer
from omegaconf import OmegaConf

from admin_fairseq import training
from admin_fairseq.errors import AdminError
from admin_fairseq.profile import file as profile_file
from admin_fairseq.profile.data import Profile, SiteProfile
from admin_fairseq.profile.fill import apply_profile, freeze_first
from admin_fairseq.profile.master_weights import fill_master_weights, master_weights
from admin_fairseq.profile.measure import profile_omega
from admin_fairseq.sites import named_sites
from tests.helpers import adaptive, batch, build


def omegas_of(model):
    return {name: site.omega.detach().clone() for name, site in named_sites(model).items()}


def untouched(model):
    return all(torch.equal(site.omega, torch.ones(16)) for site in named_sites(model).values())


def test_fills_vectors():
    model = adaptive()
    profile = profile_omega(model, batch())
    apply_profile(model, profile)
    for name, site in named_sites(model).items():
        assert torch.equal(site.omega.detach(), torch.full((16,), profile.omega[name]))


def test_refuses_other_models_with_both_differences():
    profile = profile_omega(adaptive(layers=(3, 2)), batch())
    model = adaptive(layers=(2, 3))
    with pytest.raises(AdminError) as error:
        apply_profile(model, profile)
    assert (
        "3-2 against 2-3 (layers of the profile against layers of the model)"
        in str(error.value).splitlines()[0]
    )
    assert "in the profile but not in the model: encoder.layers.2.ffn_residual" in str(error.value)
    assert "in the model but not in the profile: decoder.layers.2.encoder_attn_residual" in str(
        error.value
    )
    assert untouched(model)
    with pytest.raises(AdminError, match="without an omega") as error:
        apply_profile(build(init_type="default", layers=(3, 2)), profile)
    assert "against" not in str(error.value), "it has as many layers"


def test_of_many_differences_a_few_are_named():
    profile = profile_omega(adaptive(layers=(12, 12)), batch())
    with pytest.raises(AdminError) as error:
        apply_profile(adaptive(layers=(4, 4)), profile)
    lines = str(error.value).splitlines()
    assert "12-12 against 4-4" in lines[0]
    assert len(lines) == 5 and lines[-1].strip() == "... and 37 more", "12 - 4 layers have 40 sites"


@pytest.mark.parametrize(
    "omega", [1e39, 1e5, -1.5, 0.0, 1e-5, math.nan, math.inf, "two", None, torch.ones(2)]
)
def test_refuses_numbers_that_no_model_has(omega):
    model = adaptive()
    sites = OrderedDict((name, SiteProfile(1.5)) for name in named_sites(model))
    for name in ("encoder.layers.1.ffn_residual", "decoder.layers.0.ffn_residual"):
        sites[name] = SiteProfile(omega)
    with pytest.raises(AdminError) as error:
        apply_profile(model, Profile(sites))
    assert "encoder.layers.1.ffn_residual: omega" in str(error.value)
    assert "decoder.layers.0.ffn_residual: omega" in str(error.value)
    assert untouched(model)


def fairseqs_optimizer(model, kind, **common):
    """fairseq's real optimizer for --fp16 or --bf16 over what is trained of a model."""
    cfg = OmegaConf.structured(FairseqConfig())
    cfg.optimizer = OmegaConf.structured(FairseqAdamConfig())
    cfg.optimizer.lr = [0.1]
    cfg.optimizer._name = "adam"
    for name, value in common.items():
        cfg.common[name] = value
    return kind.build_optimizer(cfg, [p for p in model.parameters() if p.requires_grad])


PRECISIONS = {
    "flat fp16": (torch.float16, FP16Optimizer, dict(fp16=True)),
    "unflattened fp16": (torch.float16, FP16Optimizer, dict(fp16=True, fp16_no_flatten_grads=True)),
    "bf16": (torch.bfloat16, FP16Optimizer, dict(bf16=True)),
}


@pytest.mark.parametrize("frozen", [False, True])
@pytest.mark.parametrize("name", PRECISIONS)
def test_master_weights_hold_unrounded_omegas(name, frozen, monkeypatch):
    dtype, kind, flags = PRECISIONS[name]
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)  # the flat copy asks for it
    model = adaptive().to(dtype)
    if frozen:
        freeze_first(model)
    optimizer = fairseqs_optimizer(model, kind, **flags)
    before = [master.clone() for _, master in master_weights(optimizer)]
    omegas = {site: 1 + math.pi / (2 + i) for i, site in enumerate(named_sites(model))}
    fill_master_weights(optimizer, model, omegas)

    names = {id(parameter): name for name, parameter in model.named_parameters()}
    filled = []
    for weight, old in zip(optimizer.fp16_params, before):
        master = dict((id(w), m) for w, m in master_weights(optimizer))[id(weight)]
        site, _, kind = names[id(weight)].rpartition(".")
        if kind == "omega":
            assert master.dtype == torch.float32 and torch.equal(
                master.flatten(), torch.full((16,), omegas[site])
            )
            assert weight.eq(1).all(), "the model's own are the caller's"
            filled.append(site)
        else:
            assert torch.equal(master, old)
    assert filled == [name for name, site in named_sites(model).items() if site.omega.requires_grad]
    assert len(filled) == (8 if frozen else 10)


@pytest.mark.parametrize("name", PRECISIONS)
def test_they_are_what_fairseq_trains(name, monkeypatch):
    """fairseq copies the masters over the model after an update: there, rounded once."""
    dtype, kind, flags = PRECISIONS[name]
    monkeypatch.setattr(
        torch.cuda, "current_device", lambda: None
    )  # the device index of a CPU's weights
    model = adaptive().to(dtype)
    optimizer = fairseqs_optimizer(model, kind, **flags)
    others = {
        name: p.detach().clone()
        for name, p in model.named_parameters()
        if not name.endswith("omega")
    }
    omegas = {site: 1 + math.pi / (2 + i) for i, site in enumerate(named_sites(model))}
    fill_master_weights(optimizer, model, omegas)
    optimizer._sync_fp32_params_to_fp16()
    for site, omega in omegas_of(model).items():
        assert torch.equal(omega, torch.full((16,), omegas[site]).to(dtype))
    assert all(
        torch.equal(p, others[name]) for name, p in model.named_parameters() if name in others
    )


@pytest.mark.parametrize(
    "dtype, flags", [(torch.float16, dict(fp16=True)), (torch.bfloat16, dict(bf16=True))]
)
def test_optimizers_without_master_weights_are_left_alone(dtype, flags):
    model = adaptive().to(dtype)
    optimizer = fairseqs_optimizer(model, MemoryEfficientFP16Optimizer, **flags)
    before = omegas_of(model)
    fill_master_weights(optimizer, model, dict.fromkeys(before, 1.75))
    fill_master_weights(Namespace(), model, dict.fromkeys(before, 1.75))
    assert all(torch.equal(omega, before[name]) for name, omega in omegas_of(model).items())


def test_a_pipeline_has_a_flat_copy_per_device():
    weights = [
        Namespace(device=Namespace(index=device), numel=lambda size=size: size)
        for device, size in ((1, 2), (0, 3), (1, 4))
    ]
    masters = {0: torch.nn.Parameter(torch.arange(3.0)), 1: torch.nn.Parameter(torch.arange(6.0))}
    pairs = master_weights(Namespace(fp16_params=weights, fp32_params=masters))
    found = {id(weight): master.tolist() for weight, master in pairs}
    assert [found[id(weight)] for weight in weights] == [[0, 1], [0, 1, 2], [2, 3, 4, 5]]


def refused(tmp_path, **flags):
    model = build(init_type="adaptive", save_dir=str(tmp_path / "runs" / "seed2222"), **flags)
    with pytest.raises(AdminError) as error:
        training.set_up(model)
    return str(error.value)


def test_another_seed_is_shown_the_first_ones_profile(tmp_path):
    (tmp_path / "runs").mkdir()
    general = refused(tmp_path)
    assert "no such profile" in general and "One profile serves several seeds" in general
    assert "Beside this run" not in general and "--init-type adaptive-profiling" in general
    path = tmp_path / "runs" / "seed 1111" / "admin.profile"
    profile_file.save(profile_omega(adaptive(), batch()), path)
    message = refused(tmp_path)
    assert (
        f"  --admin-profile '{path}'\n" in message and "--init-type adaptive-profiling" in message
    )
    for i in range(9):
        profile_file.save(
            profile_omega(adaptive(), batch()), tmp_path / "runs" / f"x{i}" / "admin.profile"
        )
    (tmp_path / "runs" / "a\x1b").mkdir()
    (tmp_path / "runs" / "a\x1b" / "admin.profile").touch()
    message = refused(tmp_path)
    assert (
        message.count("admin.profile'") == 1
        and "... and 7 more" in message
        and "\x1b" not in message
    )


def test_a_damaged_profile_is_not_a_missing_one(tmp_path):
    (tmp_path / "p").write_text("# Admin profile")
    message = refused(tmp_path, admin_profile=str(tmp_path / "p"))
    assert "One profile serves" not in message and "--init-type adaptive-profiling" in message
