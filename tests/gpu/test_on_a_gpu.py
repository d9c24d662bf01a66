"""On a GPU: the checks of numbers, launches and waiting; skipped where there is none."""

import pytest
import torch

from admin_fairseq.fused_loss import fused_loss
from admin_fairseq.profile.measure import profile_omega
from tests.gpu import checks, speed
from tests.gpu.settings import Settings, Skipped
from tests.helpers import adaptive, batch, to_device
from tests.test_fused_loss import fairseqs, make

pytestmark = pytest.mark.cuda

SETTINGS = Settings("cuda", work="none of these checks writes")


def assert_passes(check):
    try:
        result = check(SETTINGS)
    except Skipped as reason:
        pytest.skip(str(reason))
    assert result.passed or result.passed is None, result


@pytest.mark.parametrize("name", checks.NUMBERS)
def test_numbers(name):
    assert_passes(checks.NUMBERS[name])


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["fp32", "bf16", "memory-efficient-bf16"])
def test_fewer_than_300_launches_at_18_18(precision):
    assert_passes(lambda settings: speed.launches(settings, precision))


def test_the_count_of_waits_counts():
    value = torch.ones(2, device="cuda")
    places = speed.waits(lambda: [value.sum().item() for _ in range(3)])
    assert sum(places.values()) == 3 and "test_on_a_gpu" in next(iter(places))
    assert not speed.waits(lambda: value.mul_(2))


def test_the_count_of_launches_counts():
    value = torch.ones(2, device="cuda")
    assert speed.count_launches(lambda: [value.mul_(2) for _ in range(5)]) == 5


def test_scaled_gradients_do_not_underflow_in_float16():
    """The gradients of rare types are below what float16 can hold until the loss is scaled."""
    features, weight, target = make(1, 3000, 4, 1, torch.float16, 3.0)
    exact = [tensor.detach().double().requires_grad_() for tensor in (features, weight)]
    expected = torch.autograd.grad(fairseqs(*exact, target, 0.0, torch.float64)[0], exact)[1]
    inputs = [tensor.detach().cuda().requires_grad_() for tensor in (features, weight)]
    scale = torch.tensor(2.0**12, device="cuda")
    loss = fused_loss(*inputs, target.cuda(), 0.0).loss
    gradient = torch.autograd.grad(loss, inputs[1], scale)[0].cpu().double().abs().amax(1)
    expected = expected.abs().amax(1)
    rare = (expected < 2e-8) & (expected * 2**12 > 1e-5)
    assert int(rare.sum()) > 20, "without the scale these would be zero"
    torch.testing.assert_close(gradient[rare], expected[rare] * 2**12, rtol=0.05, atol=0)


def test_profiling_leaves_the_random_state_of_the_gpu():
    model = adaptive(dropout=0.3).cuda()
    state = torch.cuda.get_rng_state()
    profile_omega(model, to_device(batch(), "cuda"))
    assert torch.equal(torch.cuda.get_rng_state(), state)
