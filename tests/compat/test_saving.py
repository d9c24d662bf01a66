"""What fairseq saves can be loaded anywhere, and is whole; one training has one folder."""

import argparse
import enum
import os
import pathlib
import signal
import subprocess
import sys
import time
from collections import Counter, OrderedDict, defaultdict, namedtuple

import numpy as np
import pytest
import torch
from fairseq.file_io import PathManager
from fairseq.logging import meters, metrics
from hypothesis import given
from hypothesis import strategies as st
from omegaconf import OmegaConf

from admin_fairseq import files
from admin_fairseq.compat import save_dir
from admin_fairseq.compat.saving import plain
from tests.helpers import REPOSITORY, TRAIN_FLAGS, USER_DIR, before_torch_2_6


class Colour(enum.Enum):
    RED = "red"


class Number(enum.IntEnum):
    ONE = 1


class Name(str):
    pass


Pair = namedtuple("Pair", "a b")
leaves = st.sampled_from(
    [None, True, 3, 0.5, "x", b"b", Colour.RED, Number.ONE, Name("n"), pathlib.Path("/a/b")]
    + [np.int64(4), np.float32(0.25), np.bool_(True), np.array([1, 2]), np.array([[0.5]])]
    + [np.str_("s")]
)
kept = st.recursive(
    leaves,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["a", "b", Name("c"), 4, np.int64(5)]), inner, max_size=3)
        | st.builds(Pair, inner, inner)
        | st.builds(lambda x: OrderedDict(k=x), inner)
        | st.builds(lambda x: defaultdict(list, k=[x]), inner)
        | st.builds(lambda x: argparse.Namespace(x=x), inner)
        | st.just(OmegaConf.create({"a": [1, "two"]}))
        | st.just({1, 2})
        | st.just(Counter("ab"))
    ),
    max_leaves=8,
)


@given(kept)
def test_plain_values_load_without_an_allowance(tmp_path_factory, value):
    path = tmp_path_factory.getbasetemp() / "plain.pt"
    torch.save(plain({"extra_state": value, "model": OrderedDict(w=torch.ones(2))}), path)
    before = torch.serialization.get_safe_globals()
    torch.serialization.clear_safe_globals()
    torch.serialization.add_safe_globals([argparse.Namespace, *([set] * before_torch_2_6())])
    try:
        torch.load(path, weights_only=True)
    finally:
        torch.serialization.clear_safe_globals()
        torch.serialization.add_safe_globals(before)


def test_what_has_no_plain_value_is_told(caplog):
    thing = object()
    assert plain({"cfg": {"model": [thing]}})["cfg"]["model"] == [thing]
    assert "builtins.object at cfg.model[0]" in caplog.text


def test_tensors_and_their_metadata_stay():
    state = torch.nn.Linear(2, 2).state_dict()
    result = plain({"model": state, "half": torch.ones(1, dtype=torch.bfloat16)})
    assert result["model"]._metadata == state._metadata and result["half"].dtype == torch.bfloat16
    assert all(result["model"][name] is state[name] for name in state)


def test_meters_go_on_counting_in_arrays():
    meter = meters.AverageMeter()
    meter.update(np.array([1, 2]))
    saved = plain(meter.state_dict())
    assert saved["sum"] == [1, 2]
    again = meters.AverageMeter()
    again.load_state_dict(saved)
    again.update(np.array([10, 20]))
    assert again.sum.tolist() == [11, 22]
    assert isinstance(metrics.state_dict(), OrderedDict)


def test_a_copy_is_whole_or_not_there(tmp_path, monkeypatch):
    (tmp_path / "new").write_text("new")
    (tmp_path / "old").write_text("old")

    def killed(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", killed)
    with pytest.raises(KeyboardInterrupt):
        PathManager.copy(str(tmp_path / "new"), str(tmp_path / "old"), overwrite=True)
    assert (tmp_path / "old").read_text() == "old"
    monkeypatch.undo()
    assert PathManager.copy(str(tmp_path / "new"), str(tmp_path / "old"), overwrite=True)
    assert (tmp_path / "old").read_text() == "new"


@pytest.mark.subprocess
def test_what_a_killed_writer_left_is_swept_up(tmp_path):
    program = f"""if True:
        import time
        from admin_fairseq import files
        with files.replacing({str(tmp_path / "mean.pt")!r}) as file:
            file.write(b"half")
            file.flush()
            print("writing", flush=True)
            time.sleep(60)
    """
    command = [sys.executable, "-c", program]
    writer = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=REPOSITORY)
    assert writer.stdout.readline() == "writing\n"
    (left,) = tmp_path.glob("mean.pt.*.tmp")
    with files.replacing(tmp_path / "mean.pt") as file:
        file.write(b"other")
    assert left.exists(), "it is being written"
    writer.send_signal(signal.SIGKILL)
    writer.wait()
    (tmp_path / "mean.pt.mine.tmp").touch()
    with files.replacing(tmp_path / "mean.pt") as file:
        file.write(b"whole")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mean.pt", "mean.pt.mine.tmp"]
    assert (tmp_path / "mean.pt").read_bytes() == b"whole"


def train_words(data_bin, folder, *more):
    words = [
        "fairseq-train",
        data_bin,
        "--user-dir",
        USER_DIR,
        "--cpu",
        "--save-dir",
        folder,
        *TRAIN_FLAGS,
    ]
    return [*words, "--init-type", "analytic", "--max-update", 2, *more]


@pytest.mark.subprocess
def test_two_trainings_in_one_folder(warm, data_bin, tmp_path):
    save_dir.hold(tmp_path)
    try:
        result = warm.run(*train_words(data_bin, tmp_path), check=False)
        assert result.returncode == 1 and "Traceback" not in result.stdout
        assert f"--save-dir {tmp_path}: another training (process {os.getpid()}" in result.stdout
        assert not list(tmp_path.glob("*.pt"))
        warm.run(*train_words(data_bin, tmp_path, "--checkpoint-suffix", "_b"))
        warm.run(*train_words(data_bin, tmp_path, "--no-save"))
    finally:
        save_dir.release(os.path.join(os.path.realpath(tmp_path), ".training.lock"), os.getpid())
    warm.run(*train_words(data_bin, tmp_path))
    assert not list(tmp_path.glob(".training*")), "a training that ends leaves no lock"


@pytest.mark.subprocess
def test_a_killed_training_leaves_no_lock_behind(warm, data_bin, tmp_path):
    flags = ["--max-update", 500, "--save-interval-updates", 1]
    warm.run(*train_words(data_bin, tmp_path, *flags), kill_when=[tmp_path / "checkpoint_1_3.pt"])
    time.sleep(0.1)
    assert (
        "Loaded checkpoint" in warm.run(*train_words(data_bin, tmp_path, "--max-update", 60)).stdout
    )
