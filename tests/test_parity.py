"""Against the authors' implementation: numbers recorded from it on fixed weights."""

import numpy as np
import pytest
import torch
from fairseq.modules.fairseq_dropout import FairseqDropout

from admin_fairseq.closed_forms import deepnorm_scales
from admin_fairseq.profile.file import load
from admin_fairseq.profile.fill import apply_profile
from admin_fairseq.profile.measure import profile_omega
from tests.parity import (
    ADMIN,
    BATCHES,
    check_first_step,
    check_outputs,
    make,
    omegas,
    read,
    sample,
)


@pytest.mark.parametrize("name", ADMIN)
@pytest.mark.parametrize("batch_name", BATCHES)
def test_omegas_and_variances(name, batch_name):
    data = read(name)
    model = make(data, ["sd0"])
    profile = profile_omega(model, sample(data, batch_name), count_padding=True)
    for stack, short in (("encoder", "enc"), ("decoder", "dec")):
        np.testing.assert_allclose(
            omegas(profile, stack), data[f"{batch_name}/omega_{short}"], rtol=1e-5
        )
        sites = [site for key, site in profile.sites.items() if key.startswith(stack)]
        for field, key in (("branch_variance", "var_out"), ("shortcut_variance", "var_in")):
            values = [getattr(site, field) for site in sites]
            np.testing.assert_allclose(values, data[f"{batch_name}/{key}_{short}"], rtol=1e-5)


@pytest.mark.parametrize("name", ADMIN)
@pytest.mark.parametrize("batch_name", ["batch", "mixed"])
def test_omegas_without_padding(name, batch_name):
    data = read(name)
    profile = profile_omega(make(data, ["sd0"]), sample(data, batch_name))
    for stack, short in (("encoder", "enc"), ("decoder", "dec")):
        np.testing.assert_allclose(
            omegas(profile, stack), data[f"{batch_name}/exclpad_omega_{short}"], rtol=1e-5
        )


@pytest.mark.parametrize("name", ADMIN)
@pytest.mark.parametrize("batch_name", BATCHES)
def test_stage_2_outputs(name, batch_name):
    data = read(name)
    check_outputs(make(data, ["sd0", "sd2_ratio"]), data, batch_name, f"stage2/{batch_name}")


@pytest.mark.parametrize("name", ADMIN)
def test_every_weight_matters(name):
    data = read(name)
    check_outputs(make(data, ["pert/sd"]), data, "mixed", "pert/mixed")


@pytest.mark.parametrize("name", ADMIN)
@pytest.mark.parametrize("batch_name", BATCHES)
def test_omega_one_is_plain_post_ln(name, batch_name):
    data = read(name)
    model = make(data, ["sd0"]).eval()
    with torch.no_grad():
        logits = model(**sample(data, batch_name)["net_input"])[0]
    np.testing.assert_allclose(logits, data[f"{batch_name}/omega1_logits"], atol=1e-5)


# recorded file -> our init type; the authors' rezero* needed assertions switched off to run
INIT_TYPES = {
    "default": "default",
    "default_preln": "default",
    "rezero": "rezero",
    "rezero_postln": "rezero_postln",
    "looklinear": "looklinear",
    "deepnet": "deepnet",
}


@pytest.mark.parametrize("name", INIT_TYPES)
@pytest.mark.parametrize("batch_name", BATCHES)
def test_outputs_of_the_other_init_types(name, batch_name):
    data = read(f"mini_init_{name}")
    check_outputs(make(data, ["sd0"], INIT_TYPES[name]), data, batch_name, f"eval/{batch_name}")


@pytest.mark.parametrize("name", INIT_TYPES)
def test_every_weight_of_the_other_init_types_matters(name):
    data = read(f"mini_init_{name}")
    check_outputs(make(data, ["pert/sd"], INIT_TYPES[name]), data, "mixed", "pert/mixed")


@pytest.mark.parametrize("name", INIT_TYPES)
def test_first_training_step_of_the_other_init_types(name):
    data = read(f"mini_init_{name}")
    check_first_step(make(data, ["sd0"], INIT_TYPES[name]), data, "train")


def test_deepnet_scales():
    data = read("mini_init_deepnet")
    alpha = {stack: scales[0] for stack, scales in deepnorm_scales(2, 2).items()}
    np.testing.assert_allclose(data["deepnet_alpha_enc"], alpha["encoder"], rtol=1e-7)
    np.testing.assert_allclose(data["deepnet_alpha_dec"], alpha["decoder"], rtol=1e-7)


@pytest.mark.parametrize("name", ADMIN)
def test_first_training_step(name):
    data = read(name)
    check_first_step(make(data, ["sd0", "sd2_ratio"]), data)


def test_stage_2_of_our_own_profile_is_the_authors():
    data = read("mini_admin_2-3")
    model = make(data, ["sd0"])
    apply_profile(model, profile_omega(model, sample(data, "batch"), count_padding=True))
    check_outputs(model, data, "batch", "stage2/batch")


def test_reads_the_authors_profile_file(tmp_path):
    data = read("mini_admin_2-3")
    path = tmp_path / "profile.ratio.init"
    path.write_text(str(data["profile_text"]))
    profile = load(path)
    np.testing.assert_allclose(omegas(profile, "encoder"), data["batch/omega_enc"], rtol=1e-6)
    np.testing.assert_allclose(omegas(profile, "decoder"), data["batch/omega_dec"], rtol=1e-6)
    model = make(data, ["sd0"])
    apply_profile(model, profile)
    check_outputs(model, data, "mixed", "stage2/mixed")


class Replay:
    """Replays recorded dropout masks, in call order, through fairseq's dropout modules."""

    def __init__(self, data, monkeypatch):
        self.masks = [
            (data[key], float(data[key.replace("mask", "mask_p")]))
            for key in sorted(data)
            if key.startswith("dropmask/")
        ]
        self.used = 0
        monkeypatch.setattr(
            FairseqDropout, "forward", lambda module, x, inplace=False: self.apply(module, x)
        )

    def apply(self, module, x):
        if not module.training or module.p == 0:
            return x
        mask, p = self.masks[self.used]
        self.used += 1
        mask = torch.from_numpy(mask)
        # the authors' attention masks are (B*H) x T x S; ours may come with B and H apart
        return x * mask.reshape(x.shape) / (1 - p)


def manual_attention(monkeypatch):
    """Have attention weights pass through a FairseqDropout, where masks can be replayed.

    fairseq hands attention to torch.nn.functional, which draws its own mask; its own code path,
    used when decoding step by step, calls dropout_module.
    """
    from fairseq.modules import multihead_attention

    def forward(self, query, key, value, key_padding_mask=None, incremental_state=None, **kwargs):
        heads, size = self.num_heads, self.head_dim
        length, sentences, dim = query.shape
        split = lambda x: x.reshape(x.size(0), sentences * heads, size).transpose(0, 1)  # noqa: E731
        q, k, v = (
            split(self.q_proj(query) * self.scaling),
            split(self.k_proj(key)),
            split(self.v_proj(value)),
        )
        scores = q @ k.transpose(1, 2)
        if kwargs.get("attn_mask") is not None:
            scores = scores + kwargs["attn_mask"]
        if key_padding_mask is not None and key_padding_mask.any():
            hidden = key_padding_mask.bool().repeat_interleave(heads, 0)[:, None]
            scores = scores.masked_fill(hidden, float("-inf"))
        out = self.dropout_module(scores.softmax(-1)) @ v
        return self.out_proj(out.transpose(0, 1).reshape(length, sentences, dim)), None

    monkeypatch.setattr(multihead_attention.MultiheadAttention, "forward", forward)


DROPOUT = {"dropout": 0.1, "attention_dropout": 0.1, "activation_dropout": 0.1}


def test_omegas_under_the_authors_dropout_masks(monkeypatch):
    data = read("mini_admin_2-3_dropout0.1")
    model = make(data, ["sd0"], **DROPOUT)
    manual_attention(monkeypatch)
    replay = Replay(data, monkeypatch)
    profile = profile_omega(model, sample(data, "batch"), count_padding=True)
    assert replay.used == len(replay.masks) == 28
    np.testing.assert_allclose(omegas(profile, "encoder"), data["batch/omega_enc"], rtol=1e-5)
    np.testing.assert_allclose(omegas(profile, "decoder"), data["batch/omega_dec"], rtol=1e-5)


@pytest.mark.parametrize("batch_name", BATCHES)
def test_stage_2_outputs_of_the_dropout_model(batch_name):
    data = read("mini_admin_2-3_dropout0.1")
    check_outputs(
        make(data, ["sd0", "sd2_ratio"], **DROPOUT), data, batch_name, f"stage2/{batch_name}"
    )
