"""Folding: the stock model's outputs are the Admin model's, whatever its flags and omegas."""

import copy

import numpy as np
import pytest
import torch
from fairseq.models.transformer import TransformerModel
from fairseq.sequence_generator import SequenceGenerator
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from admin_fairseq.deploy.fold import fold, fold_state
from admin_fairseq.errors import AdminError
from admin_fairseq.profile.fill import freeze_first
from admin_fairseq.sites import first_sites, named_sites
from tests.helpers import adaptive, batch, build, task
from tests.reference import embed, run_stack

SHARING = {
    "all": {"share_all_embeddings": True},
    "decoder": {"share_decoder_input_output_embed": True},
    "none": {},
}


def disturb(model, seed=1, low=0.01, high=50.0, near_zero=True):
    """Give every weight a say: omegas log-uniform in [low, high], some negative, some near zero."""
    generator = torch.Generator().manual_seed(seed)
    if getattr(model.flags, "freeze_first_omega", False):
        freeze_first(model)  # as a training does
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "layer_norm" in name or "layernorm" in name or name.endswith("bias"):
                weight.add_(0.3 * torch.randn(weight.shape, generator=generator))
            if name.endswith("embed_tokens.weight"):
                weight[1] = torch.randn(
                    weight[1].shape, generator=generator
                )  # not 0 for padding, as another code's may be
        for site in named_sites(model).values():
            if site.omega is None or not site.omega.requires_grad:
                continue
            size = site.omega.shape
            exponent = torch.rand(size, generator=generator) * np.log(high / low) + np.log(low)
            omega = exponent.exp() * torch.where(
                torch.rand(size, generator=generator) < 0.3, -1.0, 1.0
            )
            if near_zero:
                omega[:2] = torch.tensor([1e-6, -1e-7])
            site.omega.copy_(omega)
    return model


def difference(model, other, sample, on=None):
    model, other = (copy.deepcopy(m).to(on or torch.float64).eval() for m in (model, other))
    with torch.no_grad():
        return (model(**sample)[0].double() - other(**sample)[0].double()).abs().max().item()


MODELS = {
    "layers": st.sampled_from([(1, 1), (8, 3), (2, 5), (3, 1)]),
    "sharing": st.sampled_from(sorted(SHARING)),
    "learned": st.booleans(),
    "layernorm_embedding": st.booleans(),
    "activation_fn": st.sampled_from(["relu", "gelu"]),
    "freeze_first_omega": st.booleans(),
    "no_scale_embedding": st.booleans(),
    "seed": st.integers(0, 1000),
}


def drawn_model(layers, sharing, learned, seed, **flags):
    model = adaptive(
        layers=layers,
        encoder_learned_pos=learned,
        decoder_learned_pos=learned,
        seed=seed,
        **SHARING[sharing],
        **flags,
    )
    return disturb(model, seed)


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(**MODELS)
def test_logits_are_the_same(**drawn):
    model = drawn_model(**drawn)
    sample = batch(seed=drawn["seed"])["net_input"]
    with torch.no_grad():
        logits = copy.deepcopy(model).double().eval()(**sample)[0]
    folded = fold(model.double())
    assert type(folded) is TransformerModel
    assert not [name for name in folded.state_dict() if "omega" in name]
    assert difference(model, folded, sample) <= 1e-12 * max(1, logits.abs().max().item())


@settings(max_examples=30, deadline=None, suppress_health_check=list(HealthCheck))
@given(**MODELS)
def test_float32_is_off_by_no_more_than_its_own_noise(**drawn):
    """The noise is the model's own with its weights rounded at random, since folding rounds some.

    A single run is no measure of it: with omegas near 0 two roundings of one model differ tenfold.
    """
    model = drawn_model(**drawn).eval()
    folded = fold(model)
    samples = [batch(seed=seed, sentences=16, source_length=12)["net_input"] for seed in range(4)]
    exact = copy.deepcopy(model).double()

    def error(other):
        return max(
            (other(**sample)[0] - logits).abs().max() for sample, logits in zip(samples, expected)
        )

    with torch.no_grad():
        expected = [exact(**sample)[0] for sample in samples]
        roundings = [error(rounded_at_random(exact, seed)) for seed in range(4)]
        noise = max(error(model), *roundings)
        assert error(folded) <= 3 * noise + 1e-7


def rounded_at_random(exact, seed):
    """A float32 copy of ``exact``, each weight moved by up to half a unit in its last place."""
    generator = torch.Generator().manual_seed(seed)
    copied = copy.deepcopy(exact)
    for weight in copied.parameters():
        shift = torch.rand(weight.shape, generator=generator, dtype=weight.dtype) * 2 - 1
        weight.mul_(1 + shift * 2**-24)
    return copied.float()


def test_against_the_equation_in_numpy():
    """The folded model puts out what a slow Admin model does that knows nothing of folding."""
    model = disturb(adaptive(layers=(2, 3), share_all_embeddings=True)).double().eval()
    sample = batch(padding=False)["net_input"]
    omegas = {name: site.omega.detach().numpy() for name, site in named_sites(model).items()}
    weights = {name: value.numpy() for name, value in model.state_dict().items()}
    sources, targets = (sample[key].tolist() for key in ("src_tokens", "prev_output_tokens"))
    memories, _ = run_stack(
        "encoder", embed(sources, weights, "encoder"), weights, 2, 2, omegas=omegas
    )
    outputs, _ = run_stack(
        "decoder", embed(targets, weights, "decoder"), weights, 3, 2, memories, omegas
    )
    expected = np.stack(outputs) @ weights["decoder.output_projection.weight"].T
    with torch.no_grad():
        logits = fold(model)(**sample)[0]
    np.testing.assert_allclose(logits, expected, atol=2e-5)  # fairseq computes sinusoids in float32


def test_beam_search_finds_the_same_hypotheses():
    model = disturb(
        adaptive(layers=(4, 3), share_all_embeddings=True), low=0.3, high=5.0, near_zero=False
    ).eval()
    folded = fold(model)
    for sentences, seed in ((50, 1), (50, 2)):
        sample = batch(sentences=sentences, source_length=9, seed=seed)
        found = [
            SequenceGenerator([m], task().target_dictionary, beam_size=5, max_len_b=20).generate(
                [m], sample
            )
            for m in (model, folded)
        ]
        texts = [
            [[h["tokens"].tolist() for h in hypotheses] for hypotheses in one] for one in found
        ]
        assert len(texts[0]) == sentences and texts[0] == texts[1]


ROUTES = [
    ({"layernorm_embedding": True, "share_all_embeddings": True}, "a", 0),
    ({"freeze_first_omega": True, "share_all_embeddings": True}, "b", 0),
    # two embeddings of 40 types, two tables of 64 positions and fairseq's two rows before them
    ({"share_all_embeddings": True}, "c", 2 * 40 * 16 + 2 * 66 * 16),
    ({"share_decoder_input_output_embed": True}, "c", 40 * 16 + 2 * 66 * 16),
    ({}, "c", 2 * 66 * 16),
    ({"encoder_learned_pos": True, "decoder_learned_pos": True}, "c", 0),
]


@pytest.mark.parametrize("flags, route, added", ROUTES)
def test_routes_and_what_they_cost(flags, route, added):
    model = disturb(adaptive(**flags))
    folded = fold_state(model.state_dict(), model.flags)
    assert set(folded.routes.values()) == {route} and folded.new_parameters == added
    count = lambda m: sum(p.numel() for name, p in m.named_parameters() if "omega" not in name)  # noqa: E731
    assert count(fold(model)) - count(model) == added


def test_one_stack_alone_may_need_a_copy():
    model = disturb(adaptive(share_all_embeddings=True))
    with torch.no_grad():
        named_sites(model)[first_sites(named_sites(model))[1]].omega.fill_(1)
    folded = fold_state(model.state_dict(), model.flags)
    assert folded.routes == {"encoder": "c", "decoder": "b"}
    assert folded.args.share_decoder_input_output_embed and not folded.args.share_all_embeddings
    assert difference(model, fold(model.double()), batch()["net_input"]) < 1e-12


@pytest.mark.parametrize(
    "init_type", ["default", "deepnet", "analytic", "rezero_postln", "looklinear"]
)
@pytest.mark.parametrize("sharing", sorted(SHARING))
def test_other_init_types(init_type, sharing):
    for constant in (False, True) if init_type == "analytic" else (False,):
        model = disturb(
            build(
                init_type=init_type, layers=(3, 2), analytic_constant=constant, **SHARING[sharing]
            )
        ).double()
        with torch.no_grad():
            for name, weight in model.named_parameters():
                if name.endswith("resweight"):
                    weight.fill_(-0.7)
        sample = batch()["net_input"]
        folded = fold(model)
        assert not any(
            name.endswith(("alpha", "omega", "resweight")) for name in folded.state_dict()
        )
        assert difference(model, folded, sample) < 1e-12


@pytest.mark.parametrize(
    "flags",
    [
        {"decoder_layers": 2, "no_cross_attention": True},
        {"quant_noise_pq": 0.1},
        {"quant_noise_pq": 0.1, "layernorm_embedding": True},
        {"no_token_positional_embeddings": True},
        {"adaptive_softmax_cutoff": "10,20"},
        {"checkpoint_activations": True},
        {"merge_src_tgt_embed": True, "layernorm_embedding": True},
        {"decoder_embed_dim": 32, "decoder_output_dim": 24},
        {"encoder_layerdrop": 0.5},
    ],
    ids=lambda flags: ",".join(flags),
)
def test_whatever_else_a_transformer_has(flags):
    model = disturb(adaptive(**flags)).double()
    assert difference(model, fold(model), batch()["net_input"]) < 1e-12


def test_pre_ln_without_omegas_only_changes_its_name():
    model = build(init_type="default", encoder_normalize_before=True, decoder_normalize_before=True)
    assert difference(model, fold(model), batch()["net_input"], torch.float32) == 0


def test_omega_one_changes_no_bit():
    model = adaptive(share_all_embeddings=True)
    folded = fold(model).state_dict()
    assert all(
        torch.equal(folded[name], value)
        for name, value in model.state_dict().items()
        if name in folded
    )
    assert (
        folded["encoder.embed_tokens.weight"].data_ptr()
        == folded["decoder.output_projection.weight"].data_ptr()
    )


def test_zeros_are_clamped_and_reported():
    model = disturb(adaptive()).double()
    with torch.no_grad():
        named_sites(model)["encoder.layers.1.ffn_residual"].omega[3:5] = 0
    folded = fold_state(model.state_dict(), model.flags)
    assert folded.zeros == {"encoder.layers.1.ffn_residual": 2}
    assert difference(model, fold(model), batch()["net_input"]) < 1e-5, (
        "1e-8 of the shortcut is there, and no more"
    )


def test_the_model_is_left_as_it_is_and_the_fold_has_its_dtype_and_mode():
    model = disturb(adaptive(share_all_embeddings=True)).to(torch.bfloat16).train()
    before = copy.deepcopy(model.state_dict())
    flags = copy.deepcopy(model.flags)
    folded = fold(model)
    assert folded.training and {p.dtype for p in folded.parameters()} == {torch.bfloat16}
    assert model.flags == flags
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_refusals_name_every_reason():
    state, args = (lambda model: (model.state_dict(), copy.deepcopy(model.flags)))(adaptive())
    args.encoder_normalize_before = args.cross_self_attention = args.tie_adaptive_weights = (
        args.adaptive_input
    ) = True
    args.decoder_layers_to_keep = "0"
    with pytest.raises(AdminError) as error:
        fold_state(state, args)
    for flag in (
        "--encoder-normalize-before",
        "--cross-self-attention",
        "--tie-adaptive-weights",
        "--adaptive-input",
    ):
        assert flag in str(error.value)
    assert "--decoder-layers-to-keep" in str(error.value)
    with pytest.raises(AdminError, match="rezero: no LayerNorm"):
        fold(build(init_type="rezero"))
    with pytest.raises(AdminError, match="takes an admin_transformer"):
        fold(build(arch="transformer"))


def test_what_half_precision_cannot_hold_is_refused():
    model = disturb(adaptive(), near_zero=False).half()
    with torch.no_grad():
        named_sites(model)["decoder.layers.0.ffn_residual"].omega[0] = 6e-8
    with pytest.raises(
        AdminError, match="overflows float16: an omega of its site is too close to 0"
    ):
        fold(model)
    with torch.no_grad():
        model.decoder.layers[0].fc1.weight[0, 0] = float("nan")
    with pytest.raises(AdminError, match="before folding"):
        fold(model)


def test_the_folded_model_is_scripted():
    model = disturb(adaptive(share_all_embeddings=True)).eval()
    folded = fold(model)
    sample = batch()["net_input"]
    scripted = torch.jit.script(folded)
    with torch.no_grad():
        torch.testing.assert_close(scripted(**sample)[0], folded(**sample)[0])
