"""The authors' numbers: reading them, and building our models from their weights.

``golden/`` holds three of the recordings, so that a plain clone proves parity; the others are kept
apart.
"""

import json

import numpy as np
import pytest
import torch

from tests.helpers import GOLDEN, PARITY, build, task

OUR_NAMES = {
    "encoder": {
        "attention_ratio_change": "self_attn_residual.omega",
        "fc_ratio_change": "ffn_residual.omega",
    },
    "decoder": {
        "self_ratio_change": "self_attn_residual.omega",
        "encoder_ratio_change": "encoder_attn_residual.omega",
        "fc_ratio_change": "ffn_residual.omega",
    },
}
ADMIN = ["mini_admin_2-3", "mini_admin_6-6"]
BATCHES = ["batch", "padfree", "mixed"]


def read(name):
    """Return a recording, key -> array; the test is skipped where the recording is not at hand."""
    found = [folder / f"{name}.npz" for folder in (GOLDEN, PARITY)]
    found = [path for path in found if path.is_file()]
    if not found:
        pytest.skip(f"{name}.npz is neither in {GOLDEN} nor in {PARITY}")
    with np.load(found[0]) as file:
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
        elif last == "rezero_weight":
            ours[f"{head}.resweight"] = value
        elif last in ("q_proj_weight", "k_proj_weight", "v_proj_weight"):
            ours[f"{head}.{last[:6]}.weight"] = value
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
    state.update(
        {name: value for name, value in model.state_dict().items() if name.endswith(".alpha")}
    )  # not recorded
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
        encoder_out = model.encoder(net_input["src_tokens"], net_input["src_lengths"])[
            "encoder_out"
        ][0]
        logits = model(**net_input)[0]
    real = net_input["src_tokens"].ne(1).t()  # outputs at padding positions are nobody's input
    np.testing.assert_allclose(
        encoder_out[real], data[f"{recorded}/encoder_out"][real.numpy()], atol=1e-5
    )
    np.testing.assert_allclose(logits, data[f"{recorded}/logits"], atol=1e-5)


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


def first_step(model, data, recorded="stage2/train"):
    """Loss, nll and gradients of the first training step, as fairseq's trainer has them."""
    train = sample(data, "batch")
    logits, _ = model.train()(**train["net_input"])
    loss, nll = authors_loss(logits, train["target"])
    loss.backward()
    size = int(data[f"{recorded}/sample_size"])
    norm = torch.sqrt(sum((p.grad / size).pow(2).sum() for p in model.parameters())).item()
    # the authors name shared weights once, under whichever name: list them under all
    gradients = {name: p.grad / size for name, p in model.named_parameters(remove_duplicate=False)}
    return loss.item(), nll.item(), norm, gradients


def check_first_step(model, data, recorded="stage2/train"):
    loss, nll, norm, gradients = first_step(model, data, recorded)
    assert loss == pytest.approx(float(data[f"{recorded}/loss_sum"]), rel=1e-6)
    assert nll == pytest.approx(float(data[f"{recorded}/nll_sum"]), rel=1e-6)
    assert norm == pytest.approx(float(data[f"{recorded}/gnorm"]), rel=1e-4)
    expected = weights(data, f"{recorded}/grad")
    assert {name for name in gradients if ".layers." in name} <= set(expected)
    for name, gradient in expected.items():
        torch.testing.assert_close(gradients[name], gradient, rtol=1e-3, atol=1e-6, msg=name)
