"""Optimizers over lists of tensors against fairseq's Adam and torch's RAdam, tensor by tensor."""

import argparse
import copy
import math
from types import SimpleNamespace

import pytest
import torch
from fairseq import optim, utils
from fairseq.optim.adam import Adam, FairseqAdam
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.profiler import profile

from admin_fairseq import multi_tensor
from admin_fairseq.adam import FairseqFusedAdam, FairseqMultiTensorAdam, FusedAdam, MultiTensorAdam
from admin_fairseq.errors import AdminError
from admin_fairseq.optim import MultiTensorRAdam
from tests.helpers import adaptive

SHAPES = [(3, 5), (7,), (1,), (), (40, 30), (0, 4)]
LARGE = (600, 500)  # more than one bucket of a CPU


def weights(dtypes=(torch.float32,), shapes=SHAPES, seed=1):
    generator = torch.Generator().manual_seed(seed)
    made = []
    for dtype in dtypes:
        for shape in shapes:
            made.append(torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype))
    made.append(torch.randn(9, 4, generator=generator).t().to(dtypes[0]))  # not contiguous
    return [torch.nn.Parameter(tensor) for tensor in made]


def give_gradients(params, step, missing=True):
    generator = torch.Generator().manual_seed(100 + step)
    for number, param in enumerate(params):
        value = torch.randn(param.shape, generator=generator, dtype=torch.float64).to(param.dtype)
        # a layer that layerdrop left out has none, and is behind in its steps from then on
        param.grad = None if missing and (number + step) % 5 == 0 else value


def twin(params):
    return [torch.nn.Parameter(param.detach().clone()) for param in params]


def check_same_bits(ours, theirs, one, other):
    for mine, his in zip(one, other):
        assert torch.equal(mine, his)
        assert set(ours.state[mine]) == set(theirs.state[his])
        for name, value in theirs.state[his].items():
            if torch.is_tensor(value):
                assert ours.state[mine][name].dtype == value.dtype
                assert torch.equal(ours.state[mine][name], value), name
            else:
                assert ours.state[mine][name] == value and type(value) is int


KINDS = [
    (torch.float32,),
    (torch.bfloat16,),
    (torch.float16,),
    (torch.float32, torch.bfloat16, torch.float64),
]


@settings(max_examples=60, deadline=None)
@given(
    dtypes=st.sampled_from(KINDS),
    beta1=st.floats(0.0, 0.99),
    beta2=st.floats(0.9, 0.9999),
    lr=st.floats(1e-5, 1.0),
    eps=st.sampled_from([1e-8, 1e-6, 1e-2]),
    decay=st.sampled_from([0.0, 1e-4, 0.1]),
    amsgrad=st.booleans(),
    seed=st.integers(0, 100),
)
def test_adam_is_fairseqs_bit_for_bit(dtypes, beta1, beta2, lr, eps, decay, amsgrad, seed):
    mine = weights(dtypes, seed=seed)
    his = twin(mine)
    flags = dict(lr=lr, betas=(beta1, beta2), eps=eps, weight_decay=decay, amsgrad=amsgrad)
    ours, theirs = MultiTensorAdam(mine, **flags), Adam(his, **flags)
    for step in range(7):
        for params, optimizer in ((mine, ours), (his, theirs)):
            give_gradients(params, step)
            optimizer.step()
    check_same_bits(ours, theirs, mine, his)


@settings(max_examples=40, deadline=None)
@given(
    beta1=st.floats(0.0, 0.99),
    beta2=st.floats(0.9, 0.9999),
    lr=st.floats(1e-5, 1.0),
    decay=st.sampled_from([0.0, 1e-4, 0.1]),
    dtype=st.sampled_from([torch.float32, torch.float64]),
    seed=st.integers(0, 100),
)
def test_radam_is_torchs_bit_for_bit(beta1, beta2, lr, decay, dtype, seed):
    mine = weights((dtype,), seed=seed)
    his = twin(mine)
    flags = dict(lr=lr, betas=(beta1, beta2), weight_decay=decay, decoupled_weight_decay=True)
    ours, theirs = MultiTensorRAdam(mine, **flags), torch.optim.RAdam(his, foreach=False, **flags)
    for step in range(9):  # with beta2 at 0.98 it is rectified from the sixth on
        for params, optimizer in ((mine, ours), (his, theirs)):
            give_gradients(params, step)
            optimizer.step()
    check_same_bits(ours, theirs, mine, his)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_tensor_larger_than_a_bucket(dtype):
    mine = weights((dtype,), [LARGE, (3,)])
    mine.append(torch.nn.Parameter(torch.randn(LARGE).t().to(dtype)))
    his = twin(mine)
    ours, theirs = MultiTensorAdam(mine, weight_decay=0.1), Adam(his, weight_decay=0.1)
    for step in range(3):
        for params, optimizer in ((mine, ours), (his, theirs)):
            give_gradients(params, step, missing=False)
            optimizer.step()
    check_same_bits(ours, theirs, mine, his)


def test_radam_with_a_tensor_larger_than_a_bucket():
    mine = weights(shapes=[LARGE, (3,)])
    his = twin(mine)
    ours, theirs = MultiTensorRAdam(mine), torch.optim.RAdam(his, foreach=False)
    for step in range(8):
        for params, optimizer in ((mine, ours), (his, theirs)):
            give_gradients(params, step, missing=False)
            optimizer.step()
    check_same_bits(ours, theirs, mine, his)


@settings(max_examples=40, deadline=None)
@given(
    dtypes=st.sampled_from(KINDS[:3]),
    beta2=st.floats(0.9, 0.9999),
    eps=st.sampled_from([1e-8, 1e-2, 1.0]),
    decay=st.sampled_from([0.0, 0.1]),
    amsgrad=st.booleans(),
)
def test_the_fused_kernel_has_fairseqs_formula(dtypes, beta2, eps, decay, amsgrad):
    """A large epsilon shows on which side of the bias correction it is."""
    mine = weights(dtypes)
    his = twin(mine)
    flags = dict(lr=0.01, betas=(0.9, beta2), eps=eps, weight_decay=decay, amsgrad=amsgrad)
    ours, theirs = FusedAdam(mine, **flags), Adam(his, **flags)
    for step in range(7):
        for params, optimizer in ((mine, ours), (his, theirs)):
            give_gradients(params, step)
            optimizer.step()
    tolerance = {torch.float32: 2e-6, torch.float16: 2e-3, torch.bfloat16: 2e-2}[dtypes[0]]
    for one, other in zip(mine, his):
        torch.testing.assert_close(one, other, rtol=tolerance, atol=tolerance)
        if theirs.state[other]:
            assert ours.state[one]["step"] == theirs.state[other]["step"]
            name = "exp_avg_sq"
            torch.testing.assert_close(
                ours.state[one][name], theirs.state[other][name], rtol=1e-5, atol=1e-7
            )


@pytest.mark.parametrize("first,second", [(Adam, MultiTensorAdam), (MultiTensorAdam, Adam)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_states_go_from_one_to_the_other(first, second, dtype):
    mine = weights((dtype,))
    undisturbed = twin(mine)
    optimizers = [first(mine, lr=0.01), first(undisturbed, lr=0.01)]
    for step in range(3):
        for params, optimizer in zip((mine, undisturbed), optimizers):
            give_gradients(params, step)
            optimizer.step()
    state = copy.deepcopy(optimizers[0].state_dict())
    going_on = second(mine, lr=0.5)
    going_on.load_state_dict(state)
    for number, value in state["state"].items():  # as fairseq's memory-efficient wrapper has it
        going_on.state[mine[number]] = value
    for step in range(3, 6):
        for params, optimizer in ((mine, going_on), (undisturbed, optimizers[1])):
            give_gradients(params, step)
            optimizer.step()
    check_same_bits(going_on, optimizers[1], mine, undisturbed)


@pytest.mark.parametrize("kind", [MultiTensorAdam, FusedAdam, MultiTensorRAdam])
def test_sparse_gradients_are_refused_before_anything_changes(kind):
    dense, table = torch.nn.Parameter(torch.ones(3)), torch.nn.Embedding(5, 2, sparse=True)
    dense.grad = torch.ones(3)
    table(torch.tensor([1])).sum().backward()
    with pytest.raises(RuntimeError, match="does not support sparse gradients"):
        kind([dense, table.weight]).step()
    assert torch.equal(dense, torch.ones(3))


@pytest.mark.parametrize("kind", [MultiTensorAdam, FusedAdam, MultiTensorRAdam])
def test_nothing_to_do_and_a_closure(kind):
    param = torch.nn.Parameter(torch.ones(3))
    optimizer = kind([param])
    assert optimizer.step() is None and torch.equal(param, torch.ones(3))

    def closure():
        assert torch.is_grad_enabled()
        param.grad = torch.ones(3)
        return 5

    assert optimizer.step(closure) == 5 and not torch.equal(param, torch.ones(3))


# what fairseq wraps around an optimizer


def config(name, **common):
    flags = dict(bf16=True, fp16_no_flatten_grads=True, fp16_scale_window=4, fp16_init_scale=4)
    flags.update(fp16_scale_tolerance=0.0, threshold_loss_scale=None, min_loss_scale=1e-4)
    section = argparse.Namespace(
        optimizer=name, adam_betas="(0.9, 0.98)", adam_eps=1e-8, weight_decay=0.01, lr=[0.01]
    )
    return SimpleNamespace(
        common=SimpleNamespace(**{**flags, **common}),
        optimizer=section,
        optimization=SimpleNamespace(update_freq=[1]),
    )


WRAPPERS = [optim.FP16Optimizer, optim.MemoryEfficientFP16Optimizer]


def updates(name, wrapper, params, clip, steps=5, state=None, first=0, **common):
    optimizer = wrapper.build_optimizer(config(name, **common), params)
    if state:
        optimizer.load_state_dict(copy.deepcopy(state))
    norms = []
    for step in range(first, first + steps):
        optimizer.zero_grad()
        give_gradients(params, step)
        optimizer._needs_sync = True  # as backward() leaves it
        optimizer.multiply_grads(0.5)
        norms.append(optimizer.clip_grad_norm(clip))
        optimizer.step()
    return norms, optimizer.state_dict()


@pytest.mark.parametrize("wrapper", WRAPPERS, ids=lambda wrapper: wrapper.__name__)
@pytest.mark.parametrize("clip", [0.0, 1.0])
@pytest.mark.parametrize("bf16", [True, False])
def test_wrappers_for_half_precision(wrapper, clip, bf16):
    dtype = torch.bfloat16 if bf16 else torch.float16
    mine = weights((dtype,))
    his = twin(mine)
    norms, state = updates("multi_tensor_adam", wrapper, mine, clip, bf16=bf16)
    plain_norms, plain_state = updates("adam", wrapper, his, clip, bf16=bf16)
    assert torch.equal(torch.stack(norms), torch.stack(plain_norms))
    for one, other in zip(mine, his):
        assert torch.equal(one, other)
    for number, values in plain_state["state"].items():
        for name, value in values.items():
            assert torch.equal(
                torch.as_tensor(state["state"][number][name]), torch.as_tensor(value)
            )
    # and on from each other's checkpoints
    updates("adam", wrapper, mine, clip, state=state, first=5, bf16=bf16)
    updates("multi_tensor_adam", wrapper, his, clip, state=plain_state, first=5, bf16=bf16)
    for one, other in zip(mine, his):
        assert torch.equal(one, other)


def test_names_and_settings_are_fairseqs():
    params = [torch.nn.Parameter(torch.ones(1))]
    for name, kind in (
        ("multi_tensor_adam", FairseqMultiTensorAdam),
        ("fused_adam", FairseqFusedAdam),
    ):
        assert optim.OPTIMIZER_REGISTRY[name] is kind
        ours, theirs = (optim.build_optimizer(config(n).optimizer, params) for n in (name, "adam"))
        assert type(ours).__name__ == type(theirs).__name__ == FairseqAdam.__name__
        assert ours.optimizer_config == theirs.optimizer_config
        assert ours.supports_flat_params and ours.supports_memory_efficient_fp16
        assert not ours.supports_step_with_scale and not ours.supports_groups
    flags = config("fused_adam").optimizer
    flags.fp16_adam_stats = True
    with pytest.raises(AdminError, match="--fp16-adam-stats.*--optimizer adam"):
        optim.build_optimizer(flags, params)


# the norm


@pytest.mark.parametrize("clip", [0.0, 1e-3, 1e9])
@pytest.mark.parametrize("dtypes", [KINDS[0], KINDS[1], (torch.float32, torch.bfloat16)])
@pytest.mark.parametrize("shapes", [SHAPES, [LARGE, (2,)], []], ids=len)
def test_the_norm_is_fairseqs_bit_for_bit(clip, dtypes, shapes):
    mine = weights(dtypes, shapes)
    his = twin(mine)
    for params in (mine, his):
        give_gradients(params, 1)
    calls = []
    ours = multi_tensor.clip_grad_norm(mine, clip, lambda norm: calls.append(norm) or norm * 2)
    theirs = utils.clip_grad_norm_(his, clip, lambda norm: norm * 2)
    assert torch.equal(ours, theirs) and ours.dtype == theirs.dtype
    assert len(calls) == 1
    for one, other in zip(mine, his):
        assert (one.grad is None) == (other.grad is None)
        assert one.grad is None or torch.equal(one.grad, other.grad)


def test_the_norm_leaves_what_it_does_not_know_to_fairseq():
    assert multi_tensor.clip_grad_norm([], 1.0) == 0
    mine = weights()
    mine[0].expert = True
    his = twin(mine)
    his[0].expert = True
    for params in (mine, his):
        give_gradients(params, 1, missing=False)
    assert torch.equal(multi_tensor.clip_grad_norm(mine, 0.1), utils.clip_grad_norm_(his, 0.1))
    assert torch.equal(mine[0].grad, his[0].grad)
    plain = twin(mine)
    give_gradients(plain, 1, missing=False)
    assert not torch.equal(utils.clip_grad_norm_(plain, 0), utils.clip_grad_norm_(his, 0))


# how much is started

# operations over lists -> how many lists torch's kernels for them go over, at most
LISTS = {"mul_": 2, "add_": 2, "addcmul_": 3, "sqrt": 2, "addcdiv_": 3, "norm": 1, "lerp_": 2}
LISTS |= {"div": 2, "reciprocal_": 1, "copy_": 2, "zero_": 1, "_fused_adamw_": 4}
# how many tensors a kernel takes, by the number of lists (torch's MultiTensorApply.cuh)
TENSORS_A_KERNEL = {1: 110, 2: 64, 3: 48, 4: 36}
# what starts nothing on a GPU: memory, views, conversions that have nothing to do
FREE = {"empty", "empty_like", "empty_strided", "detach", "detach_", "view", "split", "to"}
FREE |= {"lift_fresh", "resolve_conj", "resolve_neg", "alias"}


def kernels(function, tensors):
    """Count what a GPU would start, of the operations that a CPU is told to do.

    Those inside another one do not count; one over lists counts as the kernels that torch cuts it
    into.
    """
    with profile() as recorded:
        function()
    total = 0
    for event in recorded.events():
        kind, _, name = event.name.partition("::")
        parent = event.cpu_parent
        if kind != "aten" or (parent is not None and parent.name.startswith("aten::")):
            continue
        if "_foreach_" in name or "_fused_" in name:
            total += math.ceil(tensors / TENSORS_A_KERNEL[LISTS[name.replace("_foreach_", "", 1)]])
        elif name not in FREE or any(
            child.name == "aten::_to_copy" for child in event.cpu_children
        ):
            total += 1
    return total


def count_update(name, wrapper=None):
    """Count the kernels of scaling, norm, clipping and step, as fairseq's trainer calls them."""
    model = adaptive(layers=(18, 18), share_all_embeddings=True)
    params = list((model.bfloat16() if wrapper else model).parameters())
    if wrapper:
        optimizer = wrapper.build_optimizer(config(name), params)
    else:
        optimizer = optim.build_optimizer(config(name).optimizer, params)

    def update():
        optimizer.multiply_grads(0.5)
        optimizer.clip_grad_norm(1.0)
        optimizer.step()
        optimizer.zero_grad()

    for _ in range(7):  # RAdam is rectified from the sixth on
        give_gradients(params, 0, missing=False)
        optimizer._needs_sync = True
        update()
    give_gradients(params, 0, missing=False)
    optimizer._needs_sync = True
    return kernels(update, len(params)), len(params)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["multi_tensor_adam", "fused_adam", "radam"])
@pytest.mark.parametrize("wrapper", [None, *WRAPPERS], ids=str)
def test_fewer_than_300_kernels_at_18_18(name, wrapper):
    ours, tensors = count_update(name, wrapper)
    assert tensors > 800
    assert ours < 300


@pytest.mark.slow
def test_fairseqs_adam_starts_thousands_at_18_18():
    """The count counts."""
    theirs, tensors = count_update("adam", optim.FP16Optimizer)
    assert theirs > 8 * tensors
