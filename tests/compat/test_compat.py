"""Each workaround, and that what it is for is broken without it."""

import argparse
import io
import pickle
import subprocess
import sys

import numpy as np
import pytest
import torch
from fairseq.data import data_utils, iterators
from fairseq.distributed import utils as distributed_utils
from hypothesis import given, settings
from hypothesis import strategies as st

from admin_fairseq import compat
from admin_fairseq.compat import loading
from tests.helpers import REPOSITORY, USER_DIR, before_torch_2_6, run


def sizes(batches):
    return [len(batch) for batch in batches]


@settings(max_examples=60, deadline=None)
@given(
    lengths=st.lists(st.integers(1, 30), min_size=1, max_size=70),
    max_tokens=st.integers(30, 300),
    multiple=st.sampled_from([1, 2, 8]),
    by_vector=st.booleans(),
)
def test_every_index_is_in_one_batch(lengths, max_tokens, multiple, by_vector):
    indices = np.argsort(lengths, kind="stable")
    batches = data_utils.batch_by_size(
        indices,
        lambda i: lengths[i],
        np.array(lengths)[indices] if by_vector else None,
        max_tokens=max_tokens,
        required_batch_size_multiple=multiple,
    )
    assert np.array_equal(np.concatenate(batches), indices)
    assert all(len(b) * max(lengths[i] for i in b) <= max_tokens for b in batches)


loses_batches = pytest.mark.skipif(
    not hasattr(data_utils.batch_by_size, "__wrapped__"),
    reason="this fairseq keeps the last batch: nothing to work around",
)


@loses_batches
def test_without_the_workaround_the_last_batch_is_lost():
    original = data_utils.batch_by_size.__wrapped__
    arguments = dict(
        num_tokens_vec=np.ones(60, dtype=np.int64), max_tokens=1000, required_batch_size_multiple=8
    )
    assert sum(sizes(original(np.arange(60), lambda i: 1, **arguments))) == 56
    assert sum(sizes(data_utils.batch_by_size(np.arange(60), lambda i: 1, **arguments))) == 60


@loses_batches
def test_fixed_shapes_are_left_alone():
    shapes = np.array([[8, 10], [16, 5]])
    arguments = dict(num_tokens_vec=np.full(20, 5), fixed_shapes=shapes)
    original = data_utils.batch_by_size.__wrapped__
    got, expected = (
        f(np.arange(20), lambda i: 5, **arguments) for f in (data_utils.batch_by_size, original)
    )
    assert sizes(got) == sizes(expected)


@pytest.mark.subprocess
def test_checkpoints_load_and_other_classes_do_not(tmp_path):
    path = tmp_path / "x.pt"
    torch.save({"args": argparse.Namespace(a=1)}, path)
    assert torch.load(path, weights_only=True)["args"].a == 1
    before = torch.serialization.get_safe_globals()
    torch.serialization.clear_safe_globals()
    try:
        with pytest.raises(pickle.UnpicklingError, match="argparse.Namespace"):
            torch.load(path, weights_only=True)
    finally:
        torch.serialization.add_safe_globals(before)
    compat.allow_checkpoint_classes()
    torch.save({"call": subprocess.Popen}, path)
    with pytest.raises(pickle.UnpicklingError, match="Popen"):
        torch.load(path)


@pytest.mark.parametrize("value", [np.arange(3.0), np.float64(2), np.int64(3), np.bool_(True)])
def test_torch_before_2_6_knows_numpy_by_both_names(monkeypatch, value):
    """Its allow-list is of functions alone, and it looks at the names that they have."""
    monkeypatch.delattr(torch.serialization, "get_unsafe_globals_in_checkpoint", raising=False)
    allowed = {f"{what.__module__}.{what.__name__}": what for what in loading._numpy_records()}
    function, arguments, *state = value.__reduce__()
    for module in ("numpy.core.multiarray", "numpy._core.multiarray"):
        made = allowed[f"{module}.{function.__name__}"](*arguments)
        if state:
            made.__setstate__(state[0])
        assert np.array_equal(made, value) and made.dtype == value.dtype
    assert "_codecs.encode" in allowed


def receive(function, obj, monkeypatch):
    """Have rank 1 receive what rank 0 saved."""
    buffer = io.BytesIO()
    torch.save(obj, buffer)
    data = torch.frombuffer(bytearray(buffer.getvalue()), dtype=torch.uint8)
    messages = iter([torch.tensor([len(data)]), data])
    monkeypatch.setattr(distributed_utils, "get_rank", lambda group: 1)
    monkeypatch.setattr(
        distributed_utils, "broadcast", lambda tensor, src, group: tensor.copy_(next(messages))
    )
    return function(None, 0, None, torch.device("cpu"))


@pytest.mark.skipif(before_torch_2_6(), reason="it loads in full, if not told otherwise")
def test_a_state_with_dictconfigs_is_broadcast(monkeypatch):
    from omegaconf import OmegaConf

    state = {"cfg": OmegaConf.create({"a": 1})}
    function = distributed_utils._broadcast_object_slow
    with pytest.raises(pickle.UnpicklingError, match="DictConfig"):
        receive(function.__wrapped__, state, monkeypatch)
    assert receive(function, state, monkeypatch)["cfg"].a == 1


def test_numpy_names(monkeypatch):
    assert np.dtype(np.compat.long).kind == "i"
    assert data_utils.get_buckets(np.arange(100), 4).tolist() == [24, 49, 74, 99]
    monkeypatch.delattr(np, "compat")
    compat.restore_numpy_names()
    assert np.zeros(2, dtype=np.compat.long).tolist() == [0, 0]


def test_percentiles_of_numpy_2_4(monkeypatch):
    """It has no ``interpolation`` any more, nor has this stand-in for it."""

    def percentile(a, q, method="linear"):
        return sound(a, q, method=method)

    sound = np.percentile
    monkeypatch.setattr(np, "percentile", percentile)
    monkeypatch.setattr(data_utils, "np", np)
    with pytest.raises(TypeError, match="interpolation"):
        data_utils.get_buckets(np.arange(100), 4)
    compat.restore_numpy_names()
    assert data_utils.get_buckets(np.arange(100), 4).tolist() == [24, 49, 74, 99]
    assert data_utils.np.zeros(2).tolist() == [0, 0]
    mended = data_utils.np
    compat.restore_numpy_names()
    assert data_utils.np is mended


def configuration(**common):
    values = {"tpu": True, "bf16": True, "cpu": True, **common}
    return {
        "common": argparse.Namespace(**values),
        "optimizer": argparse.Namespace(tpu=True),
        "task": None,
    }


class Sections(dict):
    __getattr__ = dict.__getitem__


def test_bf16_does_not_ask_for_a_tpu(monkeypatch):
    seen = []
    monkeypatch.setattr(distributed_utils, "infer_init_method", lambda *_: None)
    alone = argparse.Namespace(distributed_init_method=None, distributed_world_size=1)
    cfg = Sections(configuration(), distributed_training=alone)
    distributed_utils.call_main(cfg, seen.append)
    assert not cfg.common.tpu and not cfg.optimizer.tpu
    assert seen == [cfg]

    asked_for = Sections(configuration(bf16=False), distributed_training=alone)
    distributed_utils.call_main(asked_for, seen.append)
    assert asked_for.common.tpu, "who asks for a TPU is told that there is none"


class Endless:
    """Batches without end, as an epoch is for a process that stops in its middle."""

    def __len__(self):
        return 10**9

    def __iter__(self):
        while True:
            yield torch.zeros(3)


@pytest.mark.parametrize("taken", [1, 5])
def test_data_loading_ends_before_the_process(taken):
    batches = iterators.BufferedIterator(2, Endless())
    for _ in range(taken):
        next(batches)
    assert batches._consumer.is_alive()
    compat.stop_data_loading()
    assert not batches._consumer.is_alive()


@pytest.mark.subprocess
def test_a_process_in_the_middle_of_an_epoch_ends_cleanly():
    """The thread is busy in torch when the main thread leaves: mostly an abort by itself."""
    program = """if True:
        import sys, torch
        import admin_fairseq
        from fairseq.data import iterators
        class Busy:
            def __len__(self): return 10**9
            def __iter__(self):
                while True: yield torch.stack([torch.rand(64) for _ in range(300)])
        next(iterators.BufferedIterator(10**6, Busy()))
        raise SystemExit(0)
    """
    for _ in range(3):
        assert run(sys.executable, "-c", program, cwd=REPOSITORY).returncode == 0


def test_workarounds_are_applied_once():
    before = (
        data_utils.batch_by_size,
        distributed_utils.call_main,
        distributed_utils._broadcast_object_slow,
    )
    compat.apply()
    assert before == (
        data_utils.batch_by_size,
        distributed_utils.call_main,
        distributed_utils._broadcast_object_slow,
    )


def test_a_sound_fairseq_is_left_alone(monkeypatch):
    def sound(indices, *args, **kwargs):
        return [indices]

    monkeypatch.setattr(data_utils, "batch_by_size", sound)
    compat.keep_last_batch()
    assert data_utils.batch_by_size is sound


@pytest.mark.subprocess
def test_buckets_train(data_bin, tmp_path):
    """--num-batch-buckets goes through both of numpy's lost names."""
    flags = """
        --arch admin_transformer_tiny --encoder-layers 1 --decoder-layers 1 --optimizer adam
        --lr 1e-3
    """.split()
    flags += """
        --max-tokens 256 --num-batch-buckets 3 --max-update 1 --no-save --cpu --num-workers 0
    """.split()
    run("fairseq-train", data_bin, "--user-dir", USER_DIR, "--save-dir", tmp_path, *flags)
