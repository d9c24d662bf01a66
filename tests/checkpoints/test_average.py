"""Averages: of which checkpoints, and of which weights."""

import re

import pytest
import torch

from admin_fairseq import cli
from admin_fairseq.checkpoints import average, load_checkpoint
from admin_fairseq.errors import AdminError
from tests.helpers import TRAIN_FLAGS, USER_DIR

pytestmark = pytest.mark.subprocess

EMA = ["--store-ema", "--ema-decay", "0.8", "--init-type", "default"]
PRE_LN = ["--encoder-normalize-before", "--decoder-normalize-before"]


@pytest.fixture(scope="module")
def trained(warm, data_bin, tmp_path_factory):
    """Save-dirs of an EMA of Pre-LN, with a suffix."""
    folder = tmp_path_factory.mktemp("average")
    words = [
        "fairseq-train",
        data_bin,
        "--user-dir",
        USER_DIR,
        "--cpu",
        *TRAIN_FLAGS,
        "--max-update",
        8,
    ]
    for suffix in ("_a", "_b"):
        warm.run(
            *words,
            *EMA,
            *PRE_LN,
            "--checkpoint-suffix",
            suffix,
            "--save-dir",
            folder,
            "--save-interval-updates",
            3,
        )
    return folder


def run(capsys, *words):
    code = cli.main([str(word) for word in words])
    return code, capsys.readouterr().err


def test_a_suffix_is_named_or_found(trained, tmp_path, capsys):
    last = ["--inputs", trained, "--num-epoch-checkpoints", 2, "--output", tmp_path / "mean.pt"]
    code, error = run(capsys, "average", *last)
    assert code == 1 and "name one with --checkpoint-suffix: _a, _b" in error
    code, error = run(capsys, "average", *last, "--checkpoint-suffix", "_b")
    assert code == 0 and re.search(r"checkpoint2_b\.pt.*checkpoint1_b\.pt", error, re.S)
    for path in trained.glob("*_a.pt"):
        (tmp_path / path.name).symlink_to(path)
    alone = ["--inputs", tmp_path, "--num-update-checkpoints", 2, "--output", tmp_path / "mean.pt"]
    code, error = run(capsys, "average", *alone)
    assert code == 0 and error.count("_a.pt") == 2
    code, error = run(capsys, "average", *alone, "--checkpoint-suffix", "_c")
    assert code == 1 and "2 update checkpoints asked for, 0 found" in error


def test_the_mean_of_emas(trained, tmp_path, capsys):
    paths = [trained / "checkpoint1_a.pt", trained / "checkpoint2_a.pt"]
    code, _ = run(capsys, "average", "--ema", "--inputs", *paths, "--output", tmp_path / "ema.pt")
    assert code == 0
    mean, states = load_checkpoint(tmp_path / "ema.pt"), [load_checkpoint(path) for path in paths]
    for name, value in mean["model"].items():
        if "version" not in name:
            kept = [state["extra_state"]["ema"][name].double() for state in states]
            assert torch.equal(value, (sum(kept) / 2).float()), name
            assert (
                "bias" in name
                or "layer_norm" in name
                or not torch.equal(value, states[1]["model"][name])
            )
    assert mean["model"].keys() == states[0]["model"].keys(), "the final LayerNorms are among them"


@pytest.mark.parametrize("ema", [True, False])
def test_no_ema_stays_in_a_mean(trained, ema):
    result = average.average([trained / "checkpoint1_a.pt", trained / "checkpoint2_a.pt"], ema=ema)
    assert (
        not [name for name in result["extra_state"] if "ema" in name]
        and "last_optimizer_state" not in result
    )
    assert result["extra_state"]["train_iterator"]


def test_a_checkpoint_without_ema(trained, tmp_path):
    state = torch.load(trained / "checkpoint2_a.pt", weights_only=True)
    lost = state["extra_state"]["ema"].pop("encoder.layer_norm.weight")
    torch.save(state, tmp_path / "old.pt")
    with pytest.raises(AdminError, match="encoder.layer_norm.weight is missing"):
        average.average([tmp_path / "old.pt"], ema=True)
    del state["extra_state"]["ema"]
    torch.save(state, tmp_path / "none.pt")
    with pytest.raises(AdminError, match="holds no EMA"):
        average.average([tmp_path / "none.pt"], ema=True)
    assert lost.shape == (16,)


def test_the_float32_ema_is_preferred(trained, tmp_path):
    state = torch.load(trained / "checkpoint2_a.pt", weights_only=True)
    wide = {name: value.float() + 1 for name, value in state["extra_state"]["ema"].items()}
    state["extra_state"]["ema_fp32_params"] = wide
    torch.save(state, tmp_path / "wide.pt")
    result = average.average([tmp_path / "wide.pt"], ema=True)
    assert torch.equal(
        result["model"]["encoder.layers.0.fc1.weight"], wide["encoder.layers.0.fc1.weight"]
    )


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_tied_weights_stay_tied_and_count_once(tmp_path, dtype):
    for value in (1, 3):
        table = torch.full((4, 2), value, dtype=dtype)
        weights = {"encoder.x": table, "decoder.x": table, "other": table.clone()}
        torch.save({"model": weights}, tmp_path / f"{value}.pt")
    mean = average.average([str(tmp_path / "1.pt"), str(tmp_path / "3.pt")])["model"]
    assert all(bool((weight == 2).all()) for weight in mean.values())
    assert mean["encoder.x"].data_ptr() == mean["decoder.x"].data_ptr() != mean["other"].data_ptr()


def test_weights_tied_in_one_checkpoint_alone_have_means_of_their_own(tmp_path):
    table = torch.ones(3)
    torch.save({"model": {"a": table, "b": table}}, tmp_path / "tied.pt")
    torch.save({"model": {"a": table, "b": 5 * table}}, tmp_path / "loose.pt")
    for paths in (["tied.pt", "loose.pt"], ["loose.pt", "tied.pt"]):
        mean = average.average([str(tmp_path / path) for path in paths])["model"]
        assert (mean["a"] == 1).all() and (mean["b"] == 3).all()
