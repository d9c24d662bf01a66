"""The fused loss against fairseq's, in value and gradient, whatever the shapes and types."""

import pytest
import torch
from fairseq.criterions.label_smoothed_cross_entropy import label_smoothed_nll_loss
from hypothesis import given, settings
from hypothesis import strategies as st

from admin_fairseq.errors import AdminError
from admin_fairseq.fused_loss import fused_loss


def make(positions, types, channels, seed, dtype=torch.float64, scale=1.0):
    generator = torch.Generator().manual_seed(seed)
    features = torch.randn(positions, channels, generator=generator, dtype=torch.float64) * scale
    weight = torch.randn(types, channels, generator=generator, dtype=torch.float64)
    target = torch.randint(types, (positions,), generator=generator)
    return features.to(dtype).requires_grad_(), weight.to(dtype).requires_grad_(), target


def fairseqs(features, weight, target, smoothing, wide):
    log_probs = torch.log_softmax(features @ weight.t(), -1, dtype=wide)
    loss, nll = label_smoothed_nll_loss(log_probs, target, smoothing)
    return loss, nll, log_probs.argmax(-1).eq(target).sum()


def check(ours, theirs, inputs, rtol, atol=0.0, scale=1.0):
    """Compare values and gradients; ``atol`` is in units of the largest element."""
    for one, other in zip(ours, theirs):
        torch.testing.assert_close(one, other, rtol=rtol, atol=atol)
    mine = torch.autograd.grad(ours[0], inputs, torch.tensor(scale, dtype=ours[0].dtype))
    fairs = torch.autograd.grad(theirs[0], inputs, torch.tensor(scale, dtype=theirs[0].dtype))
    for one, other in zip(mine, fairs):
        assert one.dtype == other.dtype
        largest = float(other.abs().max()) if other.numel() else 0.0
        torch.testing.assert_close(one, other, rtol=rtol, atol=max(rtol, atol) * largest)


@settings(max_examples=150, deadline=None)
@given(
    positions=st.integers(0, 25),
    types=st.integers(2, 40),
    channels=st.integers(1, 8),
    rows=st.integers(1, 30),
    smoothing=st.floats(0, 1),
    scale=st.sampled_from([1.0, 0.0, -0.3, 128.0]),
    size=st.sampled_from([1e-3, 1.0, 30.0]),
    seed=st.integers(0, 1000),
)
def test_equals_fairseqs_in_float64(positions, types, channels, rows, smoothing, scale, size, seed):
    features, weight, target = make(positions, types, channels, seed, scale=size)
    ours = fused_loss(features, weight, target, smoothing, True, rows)
    theirs = fairseqs(features, weight, target, smoothing, torch.float64)
    check(ours, theirs, (features, weight), 1e-12, 1e-12, scale)


@pytest.mark.parametrize(
    "dtype,tolerance", [(torch.float32, 2e-6), (torch.bfloat16, 2e-2), (torch.float16, 3e-3)]
)
def test_equals_fairseqs_to_rounding(dtype, tolerance):
    features, weight, target = make(50, 300, 32, 1, dtype, 0.2)
    ours = fused_loss(features, weight, target, 0.1, True, 16)
    theirs = fairseqs(features, weight, target, 0.1, torch.float32)
    assert ours.loss.dtype == torch.float32
    for one, other in zip(ours, theirs):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=0)
    check(ours[:1], theirs[:1], (features, weight), tolerance)


def test_scaled_gradients_do_not_underflow_in_float16():
    """The gradients of rare types are below what float16 can hold until the loss is scaled."""
    features, weight, target = make(1, 3000, 4, 1, torch.float16, 3.0)
    scale = 2.0**12
    exact = [tensor.detach().double().requires_grad_() for tensor in (features, weight)]
    loss = fairseqs(*exact, target, 0.0, torch.float64)[0]
    expected = torch.autograd.grad(loss, exact)[1].abs().amax(1)
    sums = fused_loss(features, weight, target, 0.0)
    (gradient,) = torch.autograd.grad(sums.loss, weight, torch.tensor(scale))
    rare = (expected < 2e-8) & (expected * scale > 1e-5)
    assert int(rare.sum()) > 20, "without the scale these would be zero"
    got = gradient.double().abs().amax(1)[rare]
    torch.testing.assert_close(got, expected[rare] * scale, rtol=0.05, atol=0)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_under_autocast_logits_have_its_type(dtype):
    features, weight, target = make(20, 50, 16, 1, torch.float32)
    with torch.autocast("cpu", dtype=dtype):
        ours = fused_loss(features, weight, target, 0.1)
        logits = torch.nn.functional.linear(features, weight)
    assert logits.dtype == dtype
    theirs = label_smoothed_nll_loss(
        torch.log_softmax(logits, -1, dtype=torch.float32), target, 0.1
    )
    torch.testing.assert_close(ours[:2], theirs, rtol=1e-6, atol=0)
    check(ours[:1], theirs[:1], (features, weight), 2e-2)


def test_autocast_leaves_float64_alone():
    features, weight, target = make(20, 50, 16, 1)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        ours = fused_loss(features, weight, target, 0.1, True)
    check(ours, fairseqs(features, weight, target, 0.1, torch.float64), (features, weight), 1e-12)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16])
@pytest.mark.parametrize("frozen", ["features", "weight", "both"])
def test_what_is_frozen_has_no_gradient(dtype, frozen):
    features, weight, target = make(9, 20, 4, 1, dtype)
    features.requires_grad_(frozen == "weight")
    weight.requires_grad_(frozen == "features")
    loss = fused_loss(features, weight, target, 0.1).loss
    assert loss.requires_grad == (frozen != "both")
    if frozen != "both":
        loss.backward()
    assert (features.grad is not None) == (frozen == "weight")
    assert (weight.grad is not None) == (frozen == "features")


def test_without_gradients_none_is_made():
    features, weight, target = make(9, 20, 4, 1)
    with torch.no_grad():
        sums = fused_loss(features, weight, target, 0.1, True)
    assert not sums.loss.requires_grad
    torch.testing.assert_close(
        tuple(sums), fairseqs(features, weight, target, 0.1, torch.float64), rtol=1e-12, atol=0
    )


def test_a_second_backward_pass_is_right_too():
    features, weight, target = make(9, 20, 4, 1)
    loss = fused_loss(features, weight, target, 0.1).loss
    first = torch.autograd.grad(loss * 3, (features, weight), retain_graph=True)
    second = torch.autograd.grad(loss * 3, (features, weight))
    torch.testing.assert_close(first, second, rtol=1e-13, atol=1e-14)
    with pytest.raises(RuntimeError, match="second time"):
        torch.autograd.grad(loss, (features, weight))


def test_differentiating_twice_is_refused():
    features, weight, target = make(9, 20, 4, 1)
    loss = fused_loss(features, weight, target, 0.1).loss
    with pytest.raises(AdminError, match="--criterion label_smoothed_cross_entropy"):
        torch.autograd.grad(loss, features, create_graph=True)


def test_nothing_as_wide_as_the_vocabulary_outlives_its_chunk():
    """Beside one chunk's, no tensor is tokens x V: neither while running, nor saved."""
    positions, types, rows = 400, 500, 20
    features, weight, target = make(positions, types, 8, 1, torch.float32)
    largest = 0

    class Watch(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, function, kinds, args=(), kwargs=None):
            nonlocal largest
            out = function(*args, **(kwargs or {}))
            if torch.is_tensor(out):
                largest = max(largest, out.untyped_storage().nbytes() // out.element_size())
            return out

    with Watch():
        fused_loss(features, weight, target, 0.1, True, rows).loss.backward()
    assert largest == rows * types
