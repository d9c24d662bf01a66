"""The init types beside Admin: equations, first weights, the way through fairseq's commands."""

import copy
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from admin_fairseq.closed_forms import analytic_omega, deepnorm_scales
from admin_fairseq.errors import AdminError
from admin_fairseq.residual import ConstantResidual, OmegaResidual, ReZeroResidual
from admin_fairseq.sites import named_sites
from tests.commands.test_workflow import generate, hypotheses, training_losses
from tests.helpers import batch, build, run, train

OTHERS = ["analytic", "deepnet", "rezero", "rezero_postln", "looklinear"]


def logits(model, sample):
    with torch.no_grad():
        return model.eval()(**sample["net_input"])[0]


@pytest.mark.parametrize("init_type", OTHERS)
def test_every_type_has_the_sites_of_a_plain_model(init_type):
    assert list(named_sites(build(init_type=init_type))) == list(
        named_sites(build(init_type="default"))
    )


@given(st.integers(1, 500))
def test_the_closed_form(n):
    assert analytic_omega(n, "O(n)") == 1
    assert analytic_omega(n, "O(1)") ** 2 == pytest.approx(n)
    omega = analytic_omega(n, "O(logn)")
    assert (omega**2 + 1) * math.log(n + 1) == pytest.approx(n + 1)
    assert omega > 1


def test_analytic_fills_every_site_by_the_size_of_its_stack():
    model = build(init_type="analytic", layers=(4, 3))
    for name, site in named_sites(model).items():
        expected = analytic_omega(8 if name.startswith("encoder") else 9)
        assert isinstance(site, OmegaResidual)
        torch.testing.assert_close(site.omega.detach(), torch.full((16,), expected))
    no_cross = build(init_type="analytic", layers=(4, 3), no_cross_attention=True)
    assert float(named_sites(no_cross)["decoder.layers.0.ffn_residual"].omega[0]) == pytest.approx(
        analytic_omega(6)
    )


def test_constant_omegas_compute_the_same_and_learn_nothing():
    learned, constant = (build(init_type="analytic", analytic_constant=c) for c in (False, True))
    assert all(isinstance(site, ConstantResidual) for site in named_sites(constant).values())
    assert not any("residual" in name for name, _ in constant.named_parameters())
    torch.testing.assert_close(logits(learned, batch()), logits(constant, batch()))


def test_analytic_with_output_change_n_is_post_ln_bit_for_bit():
    plain, analytic = (
        build(init_type="default"),
        build(init_type="analytic", analytic_output_change="O(n)"),
    )
    assert torch.equal(logits(plain, batch()), logits(analytic, batch()))


def test_deepnet_scales_of_the_paper():
    """Table 1 of arXiv 2203.00555, worked out by hand for 6-6 and 18-18."""
    for n in (6, 18):
        scales = deepnorm_scales(n, n)
        assert scales["encoder"] == pytest.approx((0.81 * n ** (5 / 16), 0.87 * n ** (-5 / 16)))
        assert scales["decoder"] == pytest.approx(((3 * n) ** 0.25, (12 * n) ** -0.25))


def test_deepnet_weights_start_with_their_gains():
    model = build(init_type="deepnet", dim=256, layers=(2, 3))
    for stack, (_, beta) in deepnorm_scales(2, 3).items():
        layer = getattr(model, stack).layers[1]
        attentions = [layer.self_attn] + ([layer.encoder_attn] if stack == "decoder" else [])
        for attention in attentions:
            for name, gain in (("q_proj", 1), ("k_proj", 1), ("v_proj", beta), ("out_proj", beta)):
                bound = gain * math.sqrt(6 / (256 + 256))
                assert float(getattr(attention, name).weight.abs().max()) == pytest.approx(
                    bound, rel=1e-3
                ), name
        for linear in (layer.fc1, layer.fc2):
            assert float(linear.weight.abs().max()) == pytest.approx(
                beta * math.sqrt(6 / (256 + 512)), rel=1e-3
            )
            assert not linear.bias.any()


def test_xavier_ffn_starts_as_fairseq_0_9_did():
    stock, ours = build(dim=256), build(dim=256, xavier_ffn=True)
    bound = math.sqrt(6 / (256 + 512))
    for model, expected in ((ours, bound), (stock, 1 / math.sqrt(512))):
        assert float(model.encoder.layers[0].fc2.weight.abs().max()) == pytest.approx(
            expected, rel=1e-3
        )
    assert not ours.decoder.layers[1].fc1.bias.any() and stock.decoder.layers[1].fc1.bias.any()


def test_zero_qkv_bias_changes_the_biases_of_q_k_and_v_alone():
    stock, ours = build(init_type="adaptive"), build(init_type="adaptive", zero_qkv_bias=True)
    drawn = dict(stock.named_parameters())
    zeroed = set()
    for name, weight in ours.named_parameters():
        if weight.equal(drawn[name]):
            continue
        assert not weight.any(), name
        zeroed.add(name.split("layers.")[1].split(".", 1)[1])
    parts = {f"{letter}_proj.bias" for letter in "qkv"}
    assert zeroed == {f"{name}.{part}" for name in ("self_attn", "encoder_attn") for part in parts}


@pytest.mark.parametrize("activation", ["relu", "gelu"])
def test_looklinear_feed_forward_is_linear_at_the_start(activation):
    layer = build(init_type="looklinear", activation_fn=activation).encoder.layers[0].double()

    def branch(x):
        return layer.fc2(layer.activation_fn(layer.fc1(x)))

    x, y = torch.randn(2, 5, 16, dtype=torch.double)
    torch.testing.assert_close(branch(x + 3 * y), branch(x) + 3 * branch(y), atol=1e-5, rtol=1e-5)
    assert branch(x).abs().max() > 0.1


def test_rezero_is_the_identity_at_the_start():
    model = build(init_type="rezero").eval()
    names = [name for name, _ in model.named_parameters()]
    assert not any("layer_norm" in name for name in names)
    assert sum(name.endswith("resweight") for name in names) == 4, "one for each layer"
    entered, sample = [], batch()["net_input"]
    model.encoder.layers[0].register_forward_pre_hook(
        lambda layer, inputs: entered.append(inputs[0])
    )
    out = model.encoder(sample["src_tokens"], sample["src_lengths"])["encoder_out"][0]
    assert torch.equal(out, entered[0]) and out.abs().max() > 1


def test_rezero_sites_of_a_layer_share_one_scalar_that_learns():
    model = build(init_type="rezero_postln").train()
    layer = model.decoder.layers[1]
    sites = [layer.self_attn_residual, layer.encoder_attn_residual, layer.ffn_residual]
    assert all(
        isinstance(site, ReZeroResidual) and site.branch_scale is layer.resweight for site in sites
    )
    model(**batch()["net_input"])[0].pow(2).sum().backward()
    assert layer.resweight.grad.abs() > 0
    assert model.encoder.layers[0].resweight is not layer.resweight
    assert [name for name in model.state_dict() if "resweight" in name] == [
        f"{stack}.layers.{number}.resweight"
        for stack in ("encoder", "decoder")
        for number in (0, 1)
    ]
    copied = copy.deepcopy(model).half().double()
    layer = copied.decoder.layers[1]
    assert (
        layer.ffn_residual.branch_scale is layer.resweight and layer.resweight.dtype == torch.double
    )


@pytest.mark.parametrize(
    "flags, reasons",
    [
        (dict(init_type="rezero", encoder_normalize_before=True), ["--encoder-normalize-before"]),
        (
            dict(init_type="deepnet", decoder_normalize_before=True, base_layers=1),
            ["--decoder-normalize", "--base-layers"],
        ),
        (dict(init_type="deepnet", layers=(2, 0)), ["--decoder-layers 0"]),
        (dict(init_type="rezero", ddp_backend="fully_sharded"), ["fully_sharded"]),
        (dict(trace_interval=-1), ["--trace-interval -1"]),
        (
            dict(trace_interval=5, ddp_backend="fully_sharded"),
            ["--trace-interval", "fully_sharded"],
        ),
        (
            dict(init_type="looklinear", decoder_ffn_embed_dim=33, activation_fn="tanh"),
            ["--decoder-ffn-embed-dim 33", "tanh"],
        ),
    ],
)
def test_refused(flags, reasons):
    with pytest.raises(AdminError) as error:
        build(**flags)
    assert all(reason in str(error.value) for reason in reasons)


KINDS = {
    "default": "default",
    "analytic": "analytic",
    "deepnet": "deepnet",
    "rezero_postln": "rezero",
}


@pytest.mark.parametrize("trained", KINDS)
@pytest.mark.parametrize("resumed", KINDS)
def test_weights_of_another_kind_are_refused(trained, resumed):
    state = build(init_type=trained).half().state_dict()
    if trained == resumed:
        build(init_type=resumed).load_state_dict(state)
        return
    with pytest.raises(AdminError) as error:
        build(init_type=resumed).load_state_dict(state)
    assert KINDS[trained] in str(error.value) and KINDS[resumed] in str(error.value)


def test_constants_of_another_depth_or_law_are_refused():
    state = build(init_type="analytic", analytic_constant=True).state_dict()
    with pytest.raises(AdminError, match="--analytic-output-change"):
        build(
            init_type="analytic", analytic_constant=True, analytic_output_change="O(1)"
        ).load_state_dict(state)


@pytest.mark.subprocess
def test_resuming_with_another_init_type_is_refused(data_bin, tmp_path):
    train(data_bin, tmp_path, "--init-type", "default", "--max-update", "1")
    result = train(data_bin, tmp_path, "--init-type", "deepnet", "--max-update", "2", check=False)
    assert result.returncode == 1 and "Traceback" not in result.stdout
    assert (
        "trained with --init-type default, or looklinear, and this model is of --init-type deepnet"
        in result.stdout
    )


def test_flags_of_another_init_type_are_pointed_out(caplog):
    build(init_type="deepnet", analytic_constant=True, admin_profile="p")
    assert (
        "--analytic-constant does nothing" in caplog.text
        and "--admin-profile does nothing" in caplog.text
    )


@pytest.mark.subprocess
@pytest.mark.parametrize(
    "init_type", [*OTHERS, "analytic --analytic-constant --analytic-output-change O(1)"]
)
def test_train_resume_average_generate(init_type, data_bin, tmp_path):
    """Averaging and generation: here for the last; test_evaluate.py has them for every one."""
    flags = ["--init-type", *init_type.split(), "--max-update", "4", "--save-interval-updates", "2"]
    first = training_losses(train(data_bin, tmp_path, *flags).stdout)
    resumed = training_losses(train(data_bin, tmp_path, *flags, "--max-update", "6").stdout)
    assert list(first) == [1, 2, 3, 4] and list(resumed) == [5, 6]
    if init_type in OTHERS:
        return
    mean = tmp_path / "mean.pt"
    run(
        "admin-fairseq",
        "average",
        "--inputs",
        tmp_path,
        "--num-update-checkpoints",
        "2",
        "--output",
        mean,
    )
    assert sorted(hypotheses(generate(data_bin, mean))) == list(range(27))
    assert not (tmp_path / "admin.profile").exists()
