"""Checkpoints whose tensors stay in their file while they are read, and nowhere after that."""

import os

import pytest
import torch
from fairseq import checkpoint_utils

from admin_fairseq.checkpoints import average, load_checkpoint, mapped, own_copy, read
from admin_fairseq.errors import AdminError

DTYPES = [torch.float32, torch.float64, torch.float16, torch.bfloat16, torch.int64, torch.uint8]


def checkpoint(path, seed=1, **how):
    """A checkpoint with weights of many types, views, tied ones, and an optimizer's state."""
    torch.manual_seed(seed)
    weights = {}
    for dtype in DTYPES:
        name = str(dtype).removeprefix("torch.")
        weights[name] = (100 * torch.rand(7, 5)).to(dtype)
        weights[f"{name}_column"] = (100 * torch.rand(6, 4)).to(dtype)[:, 1]
    weights["tied"] = weights["float32"]
    weights["transposed"] = weights["float32"].t()
    weights["empty"] = torch.zeros(0)
    state = {
        "args": None,
        "model": weights,
        "extra_state": {"train_iterator": {"epoch": seed}, "kept": torch.rand(3)},
        "last_optimizer_state": {"state": {0: {"exp_avg": torch.rand(7, 5)}}},
        "cfg": {"seed": seed},
    }
    torch.save(state, path, **how)
    return path


def overwrite(path):
    """Fill a file with other bytes, in place."""
    with open(path, "r+b") as file:
        file.write(b"\xff" * os.path.getsize(path))


def equal(ours, theirs):
    assert list(ours) == list(theirs)
    return all(torch.equal(ours[k], theirs[k]) and ours[k].dtype == theirs[k].dtype for k in ours)


@pytest.mark.parametrize("how", [{}, {"_use_new_zipfile_serialization": False}])
def test_what_is_loaded_lies_in_no_file(tmp_path, how):
    path = checkpoint(tmp_path / "checkpoint.pt", **how)
    plain = torch.load(path, weights_only=True)
    loaded = load_checkpoint(path)
    overwrite(path)
    assert equal(loaded["model"], plain["model"])
    assert torch.equal(loaded["extra_state"]["kept"], plain["extra_state"]["kept"])
    del plain["last_optimizer_state"]
    assert list(loaded) == list(plain)
    loaded["model"]["tied"][0, 0] = 7
    assert loaded["model"]["float32"][0, 0] == loaded["model"]["transposed"][0, 0] == 7


def test_what_is_mapped_does(tmp_path):
    """Which is why it is not for after the block, and a write into the file is told."""
    path = tmp_path / "checkpoint.pt"
    torch.save({"model": {"a": torch.zeros(1 << 20)}}, path)
    with (
        pytest.raises(AdminError, match="was written into while it was read"),
        mapped(path) as state,
    ):
        copied = own_copy(state)
        overwrite(path)
        assert state["model"]["a"].isnan().any()
    assert not copied["model"]["a"].any()


def test_a_file_that_is_replaced_meanwhile_is_read_as_it_was(tmp_path):
    path = checkpoint(tmp_path / "checkpoint.pt")
    plain = torch.load(path, weights_only=True)
    with mapped(path) as state:
        os.replace(checkpoint(tmp_path / "other.pt", seed=2), path)
        assert equal(state["model"], plain["model"])


@pytest.mark.parametrize("how", [{}, {"_use_new_zipfile_serialization": False}])
def test_a_mean_is_the_same_to_the_bit(tmp_path, how):
    paths = [checkpoint(tmp_path / f"{seed}.pt", seed, **how) for seed in (1, 2, 3)]
    states = [torch.load(path, weights_only=True) for path in paths]
    mean = average.average(paths)
    for path in paths:
        overwrite(path)
    expected = {}
    for name, weight in states[0]["model"].items():
        total = states[0]["model"][name].double()
        for state in states[1:]:
            total = total + state["model"][name].double()
        half = weight.dtype in (torch.float16, torch.bfloat16)
        expected[name] = (total / 3).to(torch.float32 if half else weight.dtype)
    assert equal(mean["model"], expected)
    assert list(mean) == ["args", "model", "extra_state", "cfg"], "in the order of the file"
    assert mean["extra_state"]["train_iterator"] == {"epoch": 1}
    assert torch.equal(mean["extra_state"]["kept"], states[0]["extra_state"]["kept"])


def test_a_file_that_cannot_be_mapped_is_read(tmp_path, monkeypatch):
    path, load = checkpoint(tmp_path / "checkpoint.pt"), torch.load

    def no_maps(*args, mmap=False, **kwargs):
        if mmap:
            raise RuntimeError("unable to mmap 2 bytes from file: No such device (19)")
        return load(*args, **kwargs)

    monkeypatch.setattr(torch, "load", no_maps)
    assert equal(load_checkpoint(path)["model"], load(path, weights_only=True)["model"])


@pytest.mark.parametrize(
    "program, has_it",
    [
        ("/bin/fairseq-train", True),
        ("/x/fairseq_cli/hydra_train.py", True),
        ("notebook", True),
        ("/bin/fairseq-generate", False),
        ("/x/fairseq_cli/eval_lm.py", False),
    ],
)
def test_only_a_training_reads_the_optimizers_state(tmp_path, monkeypatch, program, has_it):
    path = checkpoint(tmp_path / "checkpoint.pt")
    monkeypatch.setattr("sys.argv", [program])
    with open(path, "rb") as file:
        state = checkpoint_utils.torch.load(file, map_location="cpu")
    assert ("last_optimizer_state" in state) is has_it
    plain = read(path)
    overwrite(path)
    assert equal(state["model"], plain["model"])
