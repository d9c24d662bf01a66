"""Profiling against the slow reference, and what it promises beside the numbers."""

import numpy as np
import pytest
import reference
import torch
from admin_fairseq.errors import AdminError
from admin_fairseq.omega_init import apply_profile
from admin_fairseq.profiling import profile_omega, variance
from admin_fairseq.residual import named_sites
from helpers import adaptive, batch, build
from hypothesis import given, settings
from hypothesis import strategies as st


def sentences(sample):
    """The batch's sentences without padding: sources, and the decoder's input."""
    net_input = sample["net_input"]
    return [[row[row.ne(1)].numpy() for row in net_input[key]] for key in ("src_tokens", "prev_output_tokens")]


def perturbed(model, seed):
    """Move every weight, so that biases and LayerNorms matter too."""
    torch.manual_seed(seed)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "omega" not in name:
                weight.add_(0.1 * torch.randn_like(weight))
    return model


@settings(max_examples=25, deadline=None)
@given(
    layers=st.sampled_from([(1, 1), (2, 2), (12, 1), (3, 5), (1, 4), (6, 6)]),
    dim=st.sampled_from([4, 8, 16, 32]),
    seed=st.integers(0, 1000),
    padding=st.booleans(),
    shape=st.tuples(st.integers(1, 5), st.integers(4, 12), st.integers(4, 12)),
)
def test_equals_the_slow_reference(layers, dim, seed, padding, shape):
    model = perturbed(adaptive(seed=seed, layers=layers, dim=dim), seed)
    sample = batch(sentences=shape[0], source_length=shape[1], target_length=shape[2], padding=padding, seed=seed)
    expected = reference.admin_omegas(model.state_dict(), *sentences(sample), layers, heads=2)
    profile = profile_omega(model, sample)
    assert list(profile.omega) == list(expected) == list(named_sites(model))
    np.testing.assert_allclose(list(profile.omega.values()), list(expected.values()), rtol=2e-5)


def test_obeys_the_recursion():
    profile = profile_omega(adaptive(layers=(3, 2), dropout=0.1), batch())
    previous = None
    for name, site in profile.sites.items():
        if name.endswith(".0.self_attn_residual"):
            assert site.omega == 1
        else:
            assert site.omega**2 == pytest.approx(previous.shortcut_variance + previous.branch_variance)
        previous = site


def test_is_not_the_papers_reading():
    """With all omegas at 1 while profiling, the variances, and so omega, are others."""
    model, sample = adaptive(layers=(4, 1)), batch()
    profile = profile_omega(model, sample)
    shares = []
    for name, site in named_sites(model).items():
        site.register_forward_pre_hook(lambda _, inputs: shares.append(variance(inputs[0]).item()))
    model.train()(**sample["net_input"])
    paper = np.sqrt(np.cumsum(shares[:7]))
    assert np.abs(np.array(list(profile.omega.values())[1:8]) / paper - 1).min() > 0.01


def test_padding_is_excluded_unless_asked():
    model = adaptive()
    padded, full = batch(padding=True), batch(padding=False)
    assert profile_omega(model, padded).omega != profile_omega(model, padded, count_padding=True).omega
    assert profile_omega(model, full).omega == profile_omega(model, full, count_padding=True).omega
    # more padding changes nothing when it is excluded
    wider = batch(padding=True)
    for key in ("src_tokens", "prev_output_tokens"):
        tokens = wider["net_input"][key]
        extra = tokens.new_ones(len(tokens), 3)
        wider["net_input"][key] = torch.cat([extra, tokens] if key == "src_tokens" else [tokens, extra], dim=1)
    for a, b in zip(profile_omega(model, padded).omega.values(), profile_omega(model, wider).omega.values()):
        assert a == pytest.approx(b, rel=1e-5)


def test_leaves_the_model_and_the_random_state_as_they_were():
    model = adaptive(omegas=[2.0] * 10, dropout=0.3).eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    state = torch.get_rng_state()
    profile_omega(model, batch())
    assert torch.equal(torch.get_rng_state(), state)
    assert not model.training
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert all(p.grad is None for p in model.parameters())
    assert not any(site._forward_pre_hooks for site in named_sites(model).values())


def test_one_forward_and_no_backward():
    model, sample, calls = adaptive(), batch(), []
    model.register_forward_hook(lambda *_: calls.append(torch.is_grad_enabled()))
    profile_omega(model, sample)
    assert calls == [False]


def test_is_the_same_with_checkpointed_activations():
    torch.manual_seed(1)
    plain = profile_omega(adaptive(), batch()).omega
    assert profile_omega(adaptive(checkpoint_activations=True), batch()).omega == plain


def test_repeats_with_the_seed():
    model, found = adaptive(dropout=0.2), []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        found.append(profile_omega(model, batch()).omega)
    assert found[0] == found[1] != found[2]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_near_and_finite(dtype):
    exact = profile_omega(adaptive(layers=(6, 6)), batch()).omega
    half = profile_omega(adaptive(layers=(6, 6)).to(dtype), batch()).omega
    np.testing.assert_allclose(list(half.values()), list(exact.values()), rtol=0.03)


def test_variances_are_taken_in_float32():
    x = (1 + torch.arange(256) / 1024).to(torch.bfloat16)
    assert variance(x).item() == pytest.approx(np.var(x.double().numpy()), rel=1e-4)


def test_unit_output_variance_with_the_profile():
    """What omega is for: the summed variance grows site by site, and each branch's share shrinks."""
    model, sample = adaptive(layers=(12, 2)), batch(sentences=8)
    profile = profile_omega(model, sample)
    apply_profile(model, profile)
    omegas = [omega for name, omega in profile.omega.items() if name.startswith("encoder")]
    assert omegas == sorted(omegas)


@pytest.mark.parametrize("what", ["nan", "inf", "zero"])
def test_unsound_weights_are_named_by_site(what):
    model = adaptive()
    with torch.no_grad():
        if what == "zero":
            model.encoder.embed_tokens.weight.zero_()
            model.encoder.embed_positions = None
            model.encoder.layers[0].self_attn.out_proj.weight.zero_()
        else:
            model.encoder.layers[0].self_attn.out_proj.weight[0, 0] = float(what)
    with pytest.raises(AdminError, match=r"encoder\.layers\.0\.self_attn_residual is (nan|inf|0)"):
        profile_omega(model, batch())
    assert not any(site._forward_pre_hooks for site in named_sites(model).values())


def test_a_model_without_omegas_is_refused():
    with pytest.raises(AdminError, match="--init-type adaptive-profiling"):
        profile_omega(build(init_type="default"), batch())


def test_a_dropped_layer_is_refused():
    with pytest.raises(AdminError, match=r"did not run:\n  - encoder.layers"):
        profile_omega(adaptive(layers=(20, 1), encoder_layerdrop=0.9), batch())


def test_apply_profile_fills_vectors():
    model = adaptive()
    profile = profile_omega(model, batch())
    apply_profile(model, profile)
    for name, site in named_sites(model).items():
        assert torch.equal(site.omega.detach(), torch.full((16,), profile.omega[name]))


def test_apply_profile_refuses_other_models_with_both_differences():
    profile = profile_omega(adaptive(layers=(3, 2)), batch())
    model = adaptive(layers=(2, 3))
    with pytest.raises(AdminError) as error:
        apply_profile(model, profile)
    assert "in the profile but not in the model: encoder.layers.2.ffn_residual" in str(error.value)
    assert "in the model but not in the profile: decoder.layers.2.encoder_attn_residual" in str(error.value)
    assert all(torch.equal(site.omega, torch.ones(16)) for site in named_sites(model).values())
    with pytest.raises(AdminError, match="without an omega"):
        apply_profile(build(init_type="default", layers=(3, 2)), profile)
