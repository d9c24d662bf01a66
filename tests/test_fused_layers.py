"""--fused-layers against fairseq's own layers: equal to rounding, or to the bit."""

import copy

import fairseq.utils
import pytest
import torch
import torch.nn.functional as F
from fairseq.modules import FairseqDropout, MultiheadAttention
from fairseq.sequence_generator import SequenceGenerator
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils._python_dispatch import TorchDispatchMode

from admin_fairseq.deploy.fold import fold
from admin_fairseq.fused_attention import CausalMask, FusedAttention
from admin_fairseq.fused_dropout import FusedDropout, drop
from tests.helpers import adaptive, batch, build, task

CLOSE = {"rtol": 1e-12, "atol": 1e-12}


@pytest.fixture(autouse=True, scope="module")
def softmax_in_float64():
    """fairseq's cross-attention takes its softmax in float32, also of float64."""
    original = fairseq.utils.softmax
    fairseq.utils.softmax = lambda x, dim, onnx_trace=False: F.softmax(x, dim=dim)
    yield
    fairseq.utils.softmax = original


def attentions(kind, dim=8, heads=2, memory_dim=None, dropout=0.0, seed=1):
    """fairseq's attention, and the same as a fused one, in float64."""
    torch.manual_seed(seed)
    flags = {"self_attention": True}
    if kind == "cross":
        size = memory_dim or dim
        flags = {"encoder_decoder_attention": True, "kdim": size, "vdim": size}
    stock = MultiheadAttention(dim, heads, dropout=dropout, **flags).double()
    for weight in stock.parameters():
        torch.nn.init.normal_(weight)
    fused = copy.deepcopy(stock)
    fused.__class__ = FusedAttention
    return stock, fused


def future(length):
    return torch.triu(torch.full((length, length), -torch.inf, dtype=torch.float64), 1)


def value_and_gradients(attention, inputs, gradient, **arguments):
    attention.zero_grad()
    inputs = [value.detach().clone().requires_grad_() for value in inputs]
    query, memory = inputs[0], inputs[-1]
    value, weights = attention(query, memory, memory, **arguments)
    value.backward(gradient)
    found = {f"input {number}": x.grad for number, x in enumerate(inputs)}
    for name, weight in attention.named_parameters():
        found[name] = weight.grad
    return value.detach(), weights, found


def check_equal(stock, fused, inputs, gradient, exactly=False, **arguments):
    value, weights, found = value_and_gradients(fused, inputs, gradient, **arguments)
    expected, expected_weights, wanted = value_and_gradients(stock, inputs, gradient, **arguments)
    close = {"rtol": 0, "atol": 0} if exactly else CLOSE
    torch.testing.assert_close(value, expected, **close)
    torch.testing.assert_close(weights, expected_weights, **close)
    torch.testing.assert_close(found, wanted, **close)


SHAPES = dict(
    length=st.integers(1, 9),
    sentences=st.integers(1, 4),
    heads=st.sampled_from([1, 2, 4]),
    padded=st.booleans(),
    seed=st.integers(0, 99),
)


def padding_of(sentences, length, padded, seed):
    """B x S, True at padding; every sentence keeps one position."""
    if not padded:
        return None
    mask = torch.rand(sentences, length, generator=torch.Generator().manual_seed(seed)) < 0.4
    mask[:, 0] = False
    return mask


@settings(deadline=None, max_examples=60)
@given(**SHAPES, causal=st.sampled_from(["no", "known", "unknown"]))
def test_self_attention_equals_fairseqs(length, sentences, heads, padded, seed, causal):
    stock, fused = attentions("self", heads=heads, seed=seed)
    mask = None if causal == "no" else future(length)
    if causal == "known":
        fused.causal = CausalMask()
        fused.causal.given = mask
    inputs = [torch.randn(length, sentences, 8, dtype=torch.float64)]
    arguments = {"key_padding_mask": padding_of(sentences, length, padded, seed)}
    gradient = torch.randn_like(inputs[0])
    arguments |= {"attn_mask": mask, "need_weights": False}
    check_equal(stock, fused, inputs, gradient, **arguments)


@settings(deadline=None, max_examples=60)
@given(**SHAPES, memory_length=st.integers(1, 9), memory_dim=st.sampled_from([8, 12]))
def test_cross_attention_equals_fairseqs(
    length, sentences, heads, padded, seed, memory_length, memory_dim
):
    stock, fused = attentions("cross", heads=heads, memory_dim=memory_dim, seed=seed)
    query = torch.randn(length, sentences, 8, dtype=torch.float64)
    memory = torch.randn(memory_length, sentences, memory_dim, dtype=torch.float64)
    padding = padding_of(sentences, memory_length, padded, seed)
    arguments = {"key_padding_mask": padding, "static_kv": True, "need_weights": False}
    check_equal(stock, fused, [query, memory], torch.randn_like(query), **arguments)


def watch(attention):
    attention.v_proj.register_forward_hook(lambda *_: None)


FALLBACKS = {
    "weights": ("cross", {"need_weights": True, "static_kv": True}, None),
    "weights of heads": ("cross", {"need_head_weights": True, "static_kv": True}, None),
    "a watched projection": ("self", {"need_weights": False}, watch),
    "noise on weights": (
        "self",
        {"need_weights": False},
        lambda attention: setattr(attention, "skip_embed_dim_check", True),
    ),
    "boolean mask": (
        "self",
        {"need_weights": False, "attn_mask": future(5).bool()},
        None,
    ),
}


@pytest.mark.parametrize("kind, arguments, prepare", FALLBACKS.values(), ids=FALLBACKS)
def test_what_is_fairseqs_has_its_bits(monkeypatch, kind, arguments, prepare):
    stock, fused = attentions(kind)
    for attention in (stock, fused):
        if prepare:
            prepare(attention)
    monkeypatch.setattr(FusedAttention, "_project", None)  # what every way of ours begins with
    inputs = [torch.randn(5, 3, 8, dtype=torch.float64) for _ in range(1 + (kind == "cross"))]
    check_equal(stock, fused, inputs, torch.randn_like(inputs[0]), exactly=True, **arguments)


def test_only_the_decoders_own_mask_is_known(monkeypatch):
    seen = []
    original = F.scaled_dot_product_attention
    monkeypatch.setattr(
        F,
        "scaled_dot_product_attention",
        lambda *args, **kwargs: seen.append(kwargs["is_causal"]) or original(*args, **kwargs),
    )
    model = build(init_type="default", fused_layers=True, layers=(1, 3)).train()
    # twice: a longer batch makes a larger mask, of which a shorter one takes a part
    for length in (4, 9, 5):
        model(**batch(target_length=length, padding=False)["net_input"], alignment_layer=-1)
        # encoder, then self- and cross-attention of each decoder layer
        assert seen == [False] + 3 * [True, False], length
        seen.clear()
    causal, (mask,) = model.decoder.causal, [model.decoder.causal.given]
    assert causal.is_it(mask) and causal.is_it(mask.detach())
    assert not causal.is_it(mask.clone()) and not causal.is_it(mask[:3, :3])
    assert not causal.is_it(mask.t())


MODELS = {
    "plain": {},
    "normalise before": {"encoder_normalize_before": True, "decoder_normalize_before": True},
    "no cross-attention": {"no_cross_attention": True},
    "other dims": {"encoder_embed_dim": 24, "encoder_ffn_embed_dim": 20},
    "cross-self-attention": {"no_cross_attention": True, "cross_self_attention": True},
    "layerdrop": {"encoder_layerdrop": 0.5, "decoder_layerdrop": 0.5, "layers": (6, 4)},
    "quant-noise": {"quant_noise_pq": 0.1, "quant_noise_pq_block_size": 4},
    "checkpointed": {"checkpoint_activations": True},
    "scaled": {"scale_attn": True, "scale_heads": True},
}


def step(model, sample):
    model.zero_grad()
    torch.manual_seed(3)
    logits, extra = model(**sample["net_input"])
    (
        logits * torch.randn(logits.shape, generator=torch.Generator().manual_seed(5))
    ).sum().backward()
    gradients = {n: p.grad for n, p in model.named_parameters() if p.grad is not None}
    return {"logits": logits.detach(), "attn": extra["attn"][0], **gradients}


@pytest.mark.parametrize("padding", [True, False], ids=["padding", "no padding"])
@pytest.mark.parametrize("flags", MODELS.values(), ids=MODELS)
def test_a_model_equals_one_without_the_flag(flags, padding):
    stock = build(init_type="default", **flags).double()
    fused = build(init_type="default", fused_layers=True, **flags).double()
    assert list(stock.state_dict()) == list(fused.state_dict())
    for training in (True, False):
        stock.train(training), fused.train(training)
        found, expected = step(fused, batch(padding=padding)), step(stock, batch(padding=padding))
        assert list(found) == list(expected)
        torch.testing.assert_close(found, expected, rtol=1e-11, atol=1e-11)


def test_dropout_is_drawn_again_for_checkpointed_activations():
    flags = {"dropout": 0.2, "attention_dropout": 0.1, "activation_dropout": 0.1}
    plain = adaptive(fused_layers=True, **flags).double().train()
    again = adaptive(fused_layers=True, checkpoint_activations=True, **flags).double().train()
    torch.testing.assert_close(step(again, batch()), step(plain, batch()), rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision(dtype):
    flags = {"dropout": 0.1, "attention_dropout": 0.1}
    stock, fused = adaptive().to(dtype), adaptive(fused_layers=True).to(dtype)
    inputs = batch()["net_input"]
    torch.testing.assert_close(fused(**inputs)[0], stock(**inputs)[0], rtol=0.05, atol=0.05)
    model = adaptive(fused_layers=True, **flags).to(dtype).train()
    model(**inputs)[0].float().sum().backward()
    assert all(weight.grad.isfinite().all() for weight in model.parameters())


def test_autocast():
    stock, fused = adaptive(), adaptive(fused_layers=True)
    with torch.autocast("cpu", torch.bfloat16):
        found, expected = (model(**batch()["net_input"])[0] for model in (fused, stock))
    torch.testing.assert_close(found, expected, rtol=0.05, atol=0.05)


@settings(deadline=None, max_examples=30)
@given(
    shape=st.lists(st.integers(1, 7), min_size=1, max_size=3),
    p=st.floats(0.0, 1.0),
    dtype=st.sampled_from([torch.float64, torch.float32, torch.bfloat16]),
)
def test_dropout_drops_or_scales(shape, p, dtype):
    x = torch.ones(shape, dtype=dtype, requires_grad=True)
    torch.manual_seed(1)
    dropped = drop(x, p)
    dropped.sum().backward()
    assert torch.equal(x.grad, dropped.detach()), "one mask, forwards and backwards"
    kept = dropped[dropped != 0]
    if kept.numel():
        torch.testing.assert_close(kept, torch.full_like(kept, 1 / (1 - p)), rtol=0.01, atol=0)
    torch.manual_seed(1)
    assert torch.equal(drop(x, p), dropped)


@pytest.mark.parametrize("p", [0.05, 0.1, 0.5])
def test_dropout_drops_as_often_as_it_says(p):
    torch.manual_seed(1)
    size = 2_000_000
    dropped = drop(torch.ones(size), p)
    # five standard deviations; neighbours, which come from one draw, are independent
    assert abs(float(dropped.eq(0).float().mean()) - p) < 5 * (p * (1 - p) / size) ** 0.5
    assert abs(float(dropped.double().mean()) - 1) < 5 * (p / (1 - p) / size) ** 0.5
    zeros = dropped.view(-1, 4).eq(0).double()
    torch.testing.assert_close(zeros.T.corrcoef(), torch.eye(4).double(), rtol=0, atol=0.008)


def test_dropout_is_retained_where_fairseq_retains_it():
    model = build(init_type="default", fused_layers=True, dropout=0.5, attention_dropout=0.5)
    modules = [module for module in model.modules() if isinstance(module, FairseqDropout)]
    assert all(type(module) is FusedDropout for module in modules)
    model.make_generation_fast_(retain_dropout=True, retain_dropout_modules=["MultiheadAttention"])
    model.eval()
    torch.manual_seed(1)
    first, second = (model(**batch()["net_input"])[0] for _ in range(2))
    assert not torch.equal(first, second)


def generate(model, sample, **flags):
    generator = SequenceGenerator(
        [model], task().target_dictionary, beam_size=4, max_len_b=15, **flags
    )
    return generator.generate([model], sample)


@pytest.mark.parametrize("print_alignment", [False, True])
def test_a_beam_search_finds_the_same(print_alignment):
    omegas = [1 + 0.2 * i for i in range(15)]
    models = [adaptive(omegas=omegas, layers=(3, 3), fused_layers=on) for on in (False, True)]
    found = []
    for model in models:
        model.double().eval().make_generation_fast_(
            beamable_mm_beam_size=None, need_attn=print_alignment
        )
        found.append(generate(model, batch(sentences=7)))
    for expected, hypotheses in zip(*found):
        assert len(expected) == len(hypotheses) == 4
        for one, other in zip(expected, hypotheses):
            assert torch.equal(one["tokens"], other["tokens"])
            torch.testing.assert_close(other["positional_scores"], one["positional_scores"])
            torch.testing.assert_close(other["attention"], one["attention"])


@pytest.mark.parametrize("flags", [{}, {"no_cross_attention": True}], ids=["cross", "alone"])
def test_step_by_step_equals_the_full_pass(flags):
    model = build(init_type="default", fused_layers=True, **flags).double().eval()
    inputs = batch(padding=False)["net_input"]
    full = model(**inputs)[0]
    encoded, state = model.encoder(inputs["src_tokens"], inputs["src_lengths"]), {}
    for length in range(1, inputs["prev_output_tokens"].size(1) + 1):
        previous = inputs["prev_output_tokens"][:, :length]
        logits, _ = model.decoder(previous, encoded, incremental_state=state)
        torch.testing.assert_close(logits[:, 0], full[:, length - 1], **CLOSE)


class Questions(TorchDispatchMode):
    """Counts how often a tensor's value is asked for: on a GPU each waits for the device."""

    count = 0

    def __torch_dispatch__(self, function, kinds, args=(), kwargs=None):
        self.count += function is torch.ops.aten._local_scalar_dense.default
        return function(*args, **(kwargs or {}))


def questions(depth, training=True, **flags):
    model = build(init_type="default", layers=(depth, depth), **flags).train(training)
    inputs = batch()["net_input"]
    with Questions() as asked, torch.set_grad_enabled(training):
        model(**inputs)
    return asked.count


@pytest.mark.parametrize("training", [True, False])
def test_no_layer_waits_for_the_device(training):
    stock = questions(4, training)
    assert questions(9, training) - stock == 5, "fairseq's encoder asks at every layer"
    # what is left are the questions of embeddings, and one of each stack: is there padding?
    assert questions(4, training, fused_layers=True) == stock - 4
    assert questions(9, training, fused_layers=True) == stock - 4


@pytest.mark.parametrize("padding", [True, False])
@pytest.mark.parametrize("hiddens", [True, False])
def test_the_encoders_result_has_fairseqs_bits(padding, hiddens):
    flags = {"encoder_normalize_before": True, "decoder_normalize_before": True}
    model, inputs = build(init_type="default", **flags), batch(padding=padding)["net_input"]
    found = []
    for is_fused in (True, False):
        model.encoder.is_fused = is_fused
        found.append(model.encoder(inputs["src_tokens"], inputs["src_lengths"], hiddens))
    assert list(found[0]) == list(found[1])
    for name, value in found[1].items():
        assert len(found[0][name]) == len(value), name
        for one, other in zip(found[0][name], value):
            same = one is other if other is None else torch.equal(one, other)
            assert same and getattr(one, "dtype", None) == getattr(other, "dtype", None), name


def test_a_folded_model_is_fairseqs():
    model = adaptive(omegas=[1.5] * 10, fused_layers=True).eval()
    stock, inputs = fold(model), batch()["net_input"]
    assert not [module for module in stock.modules() if isinstance(module, FusedAttention)]
    torch.testing.assert_close(stock(**inputs)[0], model(**inputs)[0], rtol=1e-3, atol=1e-4)


def test_a_module_of_ones_own_stays():
    class Own(FairseqDropout):
        pass

    model = build(init_type="default")
    model.encoder.layers[0].dropout_module = own = Own(0.1)
    from admin_fairseq.fused_layers import fuse

    fuse(model)
    assert type(own) is Own
    assert type(model.encoder.layers[0].self_attn) is FusedAttention
