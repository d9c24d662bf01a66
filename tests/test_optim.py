"""--optimizer radam against the paper's algorithm, in numpy."""

import argparse
import copy

import numpy as np
import pytest
import torch
from fairseq import optim
from hypothesis import given, settings
from hypothesis import strategies as st

from admin_fairseq.optim import FairseqRAdam


def build(parameter, betas="(0.9, 0.98)", lr=0.1, eps=1e-8, weight_decay=0.0):
    cfg = argparse.Namespace(adam_betas=betas, adam_eps=eps, weight_decay=weight_decay, lr=[lr])
    return FairseqRAdam(cfg, [parameter])


def radam(x, gradients, lr, beta1, beta2, eps, decay):
    """Liu et al., ICLR 2020, algorithm 2, with decoupled weight decay."""
    m = v = np.zeros_like(x)
    rho_inf = 2 / (1 - beta2) - 1
    for t, g in enumerate(gradients, 1):
        m, v = beta1 * m + (1 - beta1) * g, beta2 * v + (1 - beta2) * g * g
        x = x * (1 - lr * decay)
        m_hat = m / (1 - beta1**t)
        rho = rho_inf - 2 * t * beta2**t / (1 - beta2**t)
        if rho > 5:
            r = np.sqrt((rho - 4) * (rho - 2) * rho_inf / ((rho_inf - 4) * (rho_inf - 2) * rho))
            x = x - lr * r * m_hat * np.sqrt(1 - beta2**t) / (np.sqrt(v) + eps)
        else:
            x = x - lr * m_hat
    return x


@settings(max_examples=30, deadline=None)
@given(
    beta1=st.floats(0.0, 0.99),
    beta2=st.floats(0.9, 0.999),
    lr=st.floats(1e-4, 1.0),
    decay=st.floats(0, 0.1),
    steps=st.integers(1, 30),
    seed=st.integers(0, 100),
)
def test_equals_the_papers_algorithm(beta1, beta2, lr, decay, steps, seed):
    rng = np.random.default_rng(seed)
    start, gradients = rng.normal(size=5), rng.normal(size=(steps, 5))
    parameter = torch.nn.Parameter(torch.tensor(start))
    optimizer = build(parameter, f"({beta1!r}, {beta2!r})", lr, 1e-8, decay)
    for gradient in gradients:
        parameter.grad = torch.tensor(gradient)
        optimizer.step()
    expected = radam(start, gradients, lr, beta1, beta2, 1e-8, decay)
    np.testing.assert_allclose(parameter.detach().numpy(), expected, rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("betas", ["(0.9, 0.98)", "(0.9,0.98)", "[0.9, 0.98]", (0.9, 0.98)])
def test_reads_betas_as_fairseq_gives_them(betas):
    assert build(torch.nn.Parameter(torch.ones(1)), betas).optimizer_config["betas"] == (0.9, 0.98)


def test_is_registered_and_fit_for_half_precision():
    assert optim.OPTIMIZER_REGISTRY["radam"] is FairseqRAdam
    optimizer = build(torch.nn.Parameter(torch.ones(1)))
    assert optimizer.supports_flat_params
    assert optimizer.supports_memory_efficient_fp16


def test_state_survives_saving():
    parameter = torch.nn.Parameter(torch.ones(3))
    optimizer = build(parameter)
    for _ in range(3):
        parameter.grad = torch.ones(3)
        optimizer.step()
    twin = torch.nn.Parameter(parameter.detach().clone())
    other = build(twin)
    other.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    for p, o in ((parameter, optimizer), (twin, other)):
        p.grad = torch.full((3,), 0.5)
        o.step()
    assert torch.equal(parameter, twin)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_weights_have_float32_state(dtype):
    """--memory-efficient-fp16, -bf16: as in float32, from weights rounded after each step."""
    generator = torch.Generator().manual_seed(3)
    weight = torch.nn.Parameter(torch.randn(40, generator=generator).to(dtype))
    optimizer = build(weight).optimizer
    reference = torch.nn.Parameter(weight.detach().float())
    wide = torch.optim.RAdam([reference], **build(reference).optimizer_config)
    for _ in range(12):  # rectified from the sixth step on
        gradient = torch.randn(40, generator=generator).to(dtype)
        weight.grad, reference.grad = gradient.clone(), gradient.float()
        optimizer.step()
        wide.step()
        with torch.no_grad():
            reference.copy_(reference.to(dtype))
        assert torch.equal(weight.float(), reference)
    state = optimizer.state[weight]
    assert len(optimizer.state) == 1
    for name in ("exp_avg", "exp_avg_sq"):
        assert state[name].dtype == torch.float32
        assert torch.equal(state[name], wide.state[reference][name])


def test_float32_is_torchs_own():
    generator = torch.Generator().manual_seed(3)
    ours = torch.nn.Parameter(torch.randn(40, generator=generator))
    theirs = torch.nn.Parameter(ours.detach().clone())
    first, second = (
        build(ours).optimizer,
        torch.optim.RAdam([theirs], **build(theirs).optimizer_config),
    )
    for _ in range(12):
        ours.grad = torch.randn(40, generator=generator)
        theirs.grad = ours.grad.clone()
        first.step()
        second.step()
    assert torch.equal(ours, theirs)
