"""Against the authors' implementation: numbers recorded from it on fixed weights."""

import json

import numpy as np
import pytest
import torch
from admin_fairseq.omega_init import apply_profile
from admin_fairseq.profile_file import load
from admin_fairseq.profiling import profile_omega
from fairseq.modules.fairseq_dropout import FairseqDropout
from helpers import PARITY, build, task

pytestmark = pytest.mark.skipif(not PARITY.is_dir(), reason=f"{PARITY} does not exist: recorded numbers are kept apart")

OUR_NAMES = {
    "encoder": {"attention_ratio_change": "self_attn_residual.omega", "fc_ratio_change": "ffn_residual.omega"},
    "decoder": {
        "self_ratio_change": "self_attn_residual.omega",
        "encoder_ratio_change": "encoder_attn_residual.omega",
        "fc_ratio_change": "ffn_residual.omega",
    },
}
ADMIN = ["mini_admin_2-3", "mini_admin_6-6"]
BATCHES = ["batch", "padfree", "mixed"]


def read(name):
    with np.load(PARITY / f"{name}.npz") as file:
        return dict(file)


def weights(data, prefix):
    """The authors' weights below ``prefix/``, by our names."""
    ours = {}
    for key in data:
        if not key.startswith(prefix + "/") or key.endswith("_float_tensor"):
            continue
        name, value = key[len(prefix) + 1 :], torch.from_numpy(data[key])
        head, _, last = name.rpartition(".")
        if last in OUR_NAMES.get(name.split(".")[0], {}):
            ours[f"{head}.{OUR_NAMES[name.split('.')[0]][last]}"] = value
        elif last in ("in_proj_weight", "in_proj_bias"):
            for part, chunk in zip("qkv", value.chunk(3)):
                ours[f"{head}.{part}_proj.{last.split('_')[-1]}"] = chunk
        else:
            ours[name] = value
    return ours


def make(data, prefixes, init_type="adaptive", **flags):
    args = json.loads(str(data["args_json"]))
    model = build(
        on_task=task(128),
        layers=(args["encoder_layers"], args["decoder_layers"]),
        init_type=init_type,
        admin_omega={},
        share_all_embeddings=True,
        encoder_normalize_before=args["encoder_normalize_before"],
        decoder_normalize_before=args["decoder_normalize_before"],
        **flags,
    )
    state = {}
    for prefix in prefixes:
        state.update(weights(data, prefix))
    state["decoder.output_projection.weight"] = state["encoder.embed_tokens.weight"]
    model.load_state_dict(state)
    return model


def sample(data, name):
    keys = ("src_tokens", "src_lengths", "prev_output_tokens")
    net_input = {key: torch.from_numpy(data[f"{name}/{key}"]) for key in keys}
    return {"net_input": net_input, "target": torch.from_numpy(data[f"{name}/target"])}


def omegas(profile, stack):
    return [omega for name, omega in profile.omega.items() if name.startswith(stack)]


def check_outputs(model, data, batch_name, recorded):
    model.eval()
    net_input = sample(data, batch_name)["net_input"]
    with torch.no_grad():
        encoder_out = model.encoder(net_input["src_tokens"], net_input["src_lengths"])["encoder_out"][0]
        logits = model(**net_input)[0]
    real = net_input["src_tokens"].ne(1).t()  # outputs at padding positions are nobody's input
    np.testing.assert_allclose(encoder_out[real], data[f"{recorded}/encoder_out"][real.numpy()], atol=1e-5)
    np.testing.assert_allclose(logits, data[f"{recorded}/logits"], atol=1e-5)


@pytest.mark.parametrize("name", ADMIN)
@pytest.mark.parametrize("batch_name", BATCHES)
def test_omegas_and_variances(name, batch_name):
    data = read(name)
    model = make(data, ["sd0"])
    profile = profile_omega(model, sample(data, batch_name), count_padding=True)
    for stack, short in (("encoder", "enc"), ("decoder", "dec")):
        np.testing.assert_allclose(omegas(profile, stack), data[f"{batch_name}/omega_{short}"], rtol=1e-5)
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
        np.testing.assert_allclose(omegas(profile, stack), data[f"{batch_name}/exclpad_omega_{short}"], rtol=1e-5)


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


@pytest.mark.parametrize("name", ["mini_init_default", "mini_init_default_preln"])
@pytest.mark.parametrize("batch_name", BATCHES)
def test_post_ln_and_pre_ln_outputs(name, batch_name):
    data = read(name)
    check_outputs(make(data, ["sd0"], "default"), data, batch_name, f"eval/{batch_name}")


def authors_loss(logits, target, epsilon=0.1):
    """Label-smoothed loss and nll as the authors' fairseq 0.9 has them, summed over tokens.

    It spreads epsilon over all V types; today's fairseq leaves out the target itself and divides by
    V - 1, which is another loss by about one part in ten thousand here.
    """
    log_probs = torch.log_softmax(logits, -1)
    real = target.ne(1)
    nll = -log_probs.gather(-1, target[..., None])[..., 0][real].sum()
    smooth = -log_probs.mean(-1)[real].sum()
    return (1 - epsilon) * nll + epsilon * smooth, nll


def first_step(model, data):
    """Loss, nll and gradients of the first training step, as fairseq's trainer has them."""
    train = sample(data, "batch")
    logits, _ = model.train()(**train["net_input"])
    loss, nll = authors_loss(logits, train["target"])
    loss.backward()
    size = int(data["stage2/train/sample_size"])
    return loss.item(), nll.item(), {name: p.grad / size for name, p in model.named_parameters()}


def check_first_step(model, data):
    loss, nll, gradients = first_step(model, data)
    assert loss == pytest.approx(float(data["stage2/train/loss_sum"]), rel=1e-6)
    assert nll == pytest.approx(float(data["stage2/train/nll_sum"]), rel=1e-6)
    norm = torch.sqrt(sum(g.pow(2).sum() for g in gradients.values())).item()
    assert norm == pytest.approx(float(data["stage2/train/gnorm"]), rel=1e-4)
    expected = weights(data, "stage2/train/grad")
    assert any(name.endswith(".omega") for name in expected)
    for name, gradient in expected.items():
        torch.testing.assert_close(gradients[name], gradient, rtol=1e-3, atol=1e-6, msg=name)


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
        self.masks = [(data[key], float(data[key.replace("mask", "mask_p")])) for key in sorted(data) if key.startswith("dropmask/")]
        self.used = 0
        monkeypatch.setattr(FairseqDropout, "forward", lambda module, x, inplace=False: self.apply(module, x))

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
        q, k, v = split(self.q_proj(query) * self.scaling), split(self.k_proj(key)), split(self.v_proj(value))
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
    check_outputs(make(data, ["sd0", "sd2_ratio"], **DROPOUT), data, batch_name, f"stage2/{batch_name}")
