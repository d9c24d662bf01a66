"""The layers against fairseq's own: identical where omega is 1, right where it is not."""

import pytest
import torch

from admin_fairseq import layers
from admin_fairseq.sites import named_sites
from tests.helpers import adaptive, batch, build, task

VARIANTS = {
    "plain": {},
    "shared embeddings": {"share_all_embeddings": True},
    "learned positions": {"encoder_learned_pos": True, "decoder_learned_pos": True},
    "layernorm-embedding": {"layernorm_embedding": True},
    "gelu, dropout": {
        "activation_fn": "gelu",
        "dropout": 0.2,
        "attention_dropout": 0.1,
        "activation_dropout": 0.1,
    },
    "quant-noise": {"quant_noise_pq": 0.1, "quant_noise_pq_block_size": 4},
    "encoder-layerdrop": {"encoder_layerdrop": 0.5, "layers": (6, 2)},
    "no cross-attention": {"no_cross_attention": True},
    "scaled residuals": {"scale_resids": True},
    "unequal depth": {"layers": (5, 1)},
}


def loss_and_gradients(model, sample, seed=3):
    model.train()
    model.zero_grad()
    torch.manual_seed(seed)  # dropout and layerdrop
    logits, _ = model(**sample["net_input"])
    logits.float().pow(2).sum().backward()
    return logits, {name: p.grad for name, p in model.named_parameters() if p.grad is not None}


def stock_weights(model):
    """A fairseq model's weights, less what 0.12.2 has beside them: copies, an unset buffer."""
    extra = ("_float_tensor", *layers.FASTPATH_COPIES)
    return {
        name: value
        for name, value in model.state_dict().items()
        if name.rpartition(".")[2] not in extra
    }


@pytest.mark.parametrize("flags", VARIANTS.values(), ids=VARIANTS.keys())
@pytest.mark.parametrize("init_type", ["default", "adaptive"])
def test_equals_fairseq_bit_for_bit_with_omega_one(flags, init_type):
    stock = build("transformer", **flags)
    ours = build(init_type=init_type, admin_omega={}, **flags)
    weights = stock_weights(stock)
    omegas = [name for name in ours.state_dict() if name not in stock.state_dict()]
    assert all(name.endswith("_residual.omega") for name in omegas)
    assert bool(omegas) == (init_type == "adaptive")
    assert all(torch.equal(value, ours.state_dict()[name]) for name, value in weights.items()), (
        "same seed, same weights"
    )

    sample = batch()
    expected, expected_gradients = loss_and_gradients(stock, sample)
    logits, gradients = loss_and_gradients(ours, sample)
    assert torch.equal(logits, expected)
    for name, gradient in expected_gradients.items():
        assert torch.equal(gradients[name], gradient), name
    stock.eval(), ours.eval()
    assert torch.equal(ours(**sample["net_input"])[0], stock(**sample["net_input"])[0])


def test_pre_ln_equals_fairseq():
    flags = {"encoder_normalize_before": True, "decoder_normalize_before": True}
    stock, ours = build("transformer", **flags), build(init_type="default", **flags)
    sample = batch()
    assert torch.equal(loss_and_gradients(ours, sample)[0], loss_and_gradients(stock, sample)[0])


def test_every_omega_matters_in_evaluation_after_reloading():
    sample = batch()
    reference = adaptive().eval()
    before = reference(**sample["net_input"])[0]
    for name in named_sites(reference):
        state = reference.state_dict()
        state[name + ".omega"] = torch.full_like(state[name + ".omega"], 5.0)
        model = adaptive()
        model.load_state_dict(state)
        model.eval()
        assert not torch.allclose(model(**sample["net_input"])[0], before, atol=1e-3), name


def test_omega_is_trained():
    _, gradients = loss_and_gradients(adaptive(omegas=[1.5] * 10), batch())
    for name in named_sites(adaptive()):
        assert gradients[name + ".omega"].abs().min() > 0, name


@pytest.mark.parametrize(
    "flags", [{}, {"no_cross_attention": True}], ids=["cross-attention", "decoder alone"]
)
def test_step_by_step_decoding_equals_the_full_pass(flags):
    model = adaptive(omegas=[1 + 0.1 * i for i in range(8 if flags else 10)], **flags).eval()
    net_input = batch(padding=False)["net_input"]
    with torch.no_grad():
        full = model(**net_input)[0]
        encoder_out = model.encoder(net_input["src_tokens"], net_input["src_lengths"])
        state, previous = {}, net_input["prev_output_tokens"]
        for step in range(previous.size(1)):
            logits, _ = model.decoder(previous[:, : step + 1], encoder_out, incremental_state=state)
            torch.testing.assert_close(logits[:, 0], full[:, step], rtol=1e-4, atol=1e-5)


def test_alignment_heads_are_returned():
    model, sample = adaptive(omegas=[2.0] * 10).eval(), batch()
    _, extra = model(**sample["net_input"], alignment_layer=1, alignment_heads=1)
    assert extra["attn"][0].shape == (4, 6, 7)


@pytest.mark.parametrize("part", ["self_attn", "encoder_attn", "fc1", "fc2"])
def test_after_an_exception_inside_a_layer_the_next_call_is_right(part):
    model, sample = adaptive(omegas=[1 + i for i in range(10)]).eval(), batch()
    expected = model(**sample["net_input"])[0]
    layer = model.decoder.layers[1]

    def fail(*_):
        raise RuntimeError("CUDA out of memory")

    handle = getattr(layer, part).register_forward_pre_hook(fail)
    with pytest.raises(RuntimeError, match="out of memory"):
        model(**sample["net_input"])
    handle.remove()
    assert torch.equal(model(**sample["net_input"])[0], expected)


def test_checkpointed_activations_give_the_same_gradients():
    omegas = [1 + 0.3 * i for i in range(10)]
    flags = {"dropout": 0.1}
    expected, expected_gradients = loss_and_gradients(adaptive(omegas=omegas, **flags), batch())
    model = adaptive(omegas=omegas, checkpoint_activations=True, **flags)
    logits, gradients = loss_and_gradients(model, batch())
    assert torch.equal(logits, expected)
    assert expected_gradients.keys() == gradients.keys()
    for name, gradient in expected_gradients.items():
        torch.testing.assert_close(gradients[name], gradient, msg=name)


def test_a_forward_that_skips_a_site_is_an_error():
    model, sample = adaptive(), batch()
    layer = model.encoder.layers[0]
    layer.line_up = lambda *sites: setattr(layer, "_sites_ahead", list(sites) + [None])
    with pytest.raises(RuntimeError, match="left 1 residual"):
        model(**sample["net_input"])


def test_separate_dictionaries():
    model = build(init_type="adaptive", admin_omega={}, on_task=task(40, 50))
    assert model(**batch()["net_input"])[0].shape == (4, 6, 50)


def test_the_second_copies_of_fairseq_0_12_2_are_dropped():
    """Its checkpoints have weights twice."""
    model = adaptive()
    state = dict(model.state_dict())
    for name in layers.FASTPATH_COPIES:
        state[f"encoder.layers.1.{name}"] = torch.ones(2)
    model.load_state_dict(state)
    state["encoder.layers.1.unknown"] = torch.ones(2)
    with pytest.raises(RuntimeError, match="unknown"):
        model.load_state_dict(state)
