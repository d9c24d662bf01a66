"""The criterion and the optimizers for speed in fairseq-train, against those they stand for."""

import re

import pytest
import torch

from admin_fairseq.checkpoints import load_checkpoint, read
from admin_fairseq.criterion import NAME
from admin_fairseq.profile.file import load as load_profile
from tests.commands.test_distributed import train_in_two
from tests.helpers import USER_DIR, run, train

pytestmark = pytest.mark.subprocess

PLAIN = "label_smoothed_cross_entropy"
FLAGS = ["--arch", "admin_transformer_tiny", "--init-type", "analytic", "--no-epoch-checkpoints"]


def go(data_bin, folder, criterion, *flags, updates=6, **kwargs):
    words = [*FLAGS, "--criterion", criterion, "--max-update", str(updates), *flags]
    return train(data_bin, folder, *words, **kwargs)


def figures(result, name):
    """What the log has of a figure, update by update and at validations."""
    return [float(value) for value in re.findall(rf"\b{name}=?[ ]?([\d.]+)", result.stdout)]


def check_same_training(results, folders, tolerance=2e-3):
    for name in ("loss", "nll_loss", "ppl", "gnorm", "valid on 'valid' subset | loss"):
        ours, theirs = (figures(result, re.escape(name)) for result in results)
        assert len(ours) == len(theirs)
        assert ours == pytest.approx(theirs, rel=tolerance), name
    assert len(figures(results[0], "loss")) > 6
    ours, theirs = (read(folder / "checkpoint_last.pt") for folder in folders)
    assert list(ours) == list(theirs)
    assert layout(ours["last_optimizer_state"]) == layout(theirs["last_optimizer_state"])
    last, other = (state["optimizer_history"][-1] for state in (ours, theirs))
    for name in ("criterion_name", "optimizer_name", "num_updates"):
        assert last[name] == other[name]
    for name, weight in theirs["model"].items():
        torch.testing.assert_close(
            ours["model"][name], weight, rtol=tolerance, atol=tolerance, msg=name
        )


def layout(value):
    """A state without its numbers: names, types and shapes."""
    if torch.is_tensor(value):
        return (value.dtype, tuple(value.shape))
    if isinstance(value, dict):
        return {name: layout(inner) for name, inner in value.items() if name != "lr"}
    if isinstance(value, (list, tuple)):
        return [layout(inner) for inner in value]
    return type(value)


@pytest.mark.parametrize(
    "flags",
    [
        "--report-accuracy --sentence-avg --ignore-prefix-size 1",
        "--update-freq 2 --clip-norm 0.5 --max-tokens 64",
        "--checkpoint-activations --encoder-layerdrop 0.2",
    ],
)
def test_a_training_is_the_same_to_rounding(data_bin, tmp_path, flags):
    folders = [tmp_path / name for name in ("ours", "theirs")]
    results = [
        go(data_bin, folder, criterion, *flags.split())
        for folder, criterion in zip(folders, (NAME, PLAIN))
    ]
    check_same_training(results, folders)
    if "accuracy" in flags:
        ours, theirs = (figures(result, "accuracy") for result in results)
        assert ours and ours == pytest.approx(theirs, abs=0.5)


@pytest.mark.parametrize(
    "flags", ["--bf16", "--memory-efficient-bf16", "--memory-efficient-fp16", "--amp"]
)
def test_half_precision(data_bin, tmp_path, flags):
    folders = [tmp_path / name for name in ("ours", "theirs")]
    results = [
        go(data_bin, folder, criterion, *flags.split())
        for folder, criterion in zip(folders, (NAME, PLAIN))
    ]
    check_same_training(results, folders, tolerance=3e-2)


@pytest.mark.slow
@pytest.mark.parametrize("first,second", [(NAME, PLAIN), (PLAIN, NAME)])
@pytest.mark.parametrize("optimizers", [("adam", "fused_adam"), ("multi_tensor_adam", "adam")])
def test_resumes_across_criteria_and_optimizers(data_bin, tmp_path, first, second, optimizers):
    folders = [tmp_path / name for name in ("changed", "plain")]
    go(data_bin, folders[0], first, "--optimizer", optimizers[0])
    out = go(data_bin, folders[0], second, "--optimizer", optimizers[1], updates=9)
    assert "Loaded checkpoint" in out.stdout and "num_updates=9" in out.stdout
    go(data_bin, folders[1], PLAIN, "--optimizer", "adam")
    plain = go(data_bin, folders[1], PLAIN, "--optimizer", "adam", updates=9)
    check_same_training([out, plain], folders)


def test_multi_tensor_adam_is_adam_to_the_bit(data_bin, tmp_path):
    states = []
    for name in ("multi_tensor_adam", "adam"):
        flags = ["--optimizer", name, "--clip-norm", "0.1", "--weight-decay", "0.01"]
        go(data_bin, tmp_path / name, PLAIN, *flags)
        states.append(load_checkpoint(tmp_path / name / "checkpoint_last.pt"))
    for name, weight in states[1]["model"].items():
        assert torch.equal(states[0]["model"][name], weight), name


@pytest.mark.slow
def test_two_processes(data_bin, tmp_path):
    folders = [tmp_path / name for name in ("ours", "theirs")]
    results = []
    for folder, criterion in zip(folders, (NAME, PLAIN)):
        flags = ["--init-type analytic --no-epoch-checkpoints --max-update 4"]
        flags += [f"--criterion {criterion} --report-accuracy"]
        results.append(train_in_two(data_bin, folder, *flags))
    check_same_training(results, folders)


def test_bleu_is_of_translations_as_ever(data_bin, tmp_path):
    flags = ["--eval-bleu", "--eval-bleu-args", '{"beam": 2, "max_len_b": 9}']
    flags += ["--best-checkpoint-metric", "bleu", "--maximize-best-checkpoint-metric"]
    results = [go(data_bin, tmp_path / name, name, *flags, updates=3) for name in (NAME, PLAIN)]
    ours, theirs = (figures(result, "bleu") for result in results)
    assert ours and ours == pytest.approx(theirs, abs=0.02)


@pytest.mark.parametrize(
    "flags,reason",
    [
        (["--adaptive-softmax-cutoff", "8,16"], "--adaptive-softmax-cutoff: an adaptive softmax"),
        (["--arch", "transformer"], "TransformerModel, not an --arch admin_transformer"),
    ],
)
def test_models_without_a_plain_projection_are_refused(data_bin, tmp_path, flags, reason):
    flags = ["--init-type", "default", *flags] if "--arch" not in flags else flags
    words = ["--criterion", NAME, "--max-update", "1", "--no-save"]
    if "--arch" in flags:
        command = ["fairseq-train", data_bin, "--user-dir", USER_DIR, "--cpu", "--max-tokens", "99"]
        result = run(*command, "--optimizer", "adam", *flags, *words, check=False, cwd=tmp_path)
    else:
        result = train(data_bin, tmp_path, *flags, *words, check=False)
    assert result.returncode == 1
    assert reason in result.stdout and f"--criterion {PLAIN}" in result.stdout
    assert "Traceback" not in result.stdout


def test_a_folded_model_names_fairseqs_criterion(data_bin, tmp_path):
    """fairseq-validate builds the criterion that a checkpoint names, without the plugin."""
    go(data_bin, tmp_path, NAME, "--optimizer", "fused_adam", updates=2)
    stock = tmp_path / "stock.pt"
    run("admin-fairseq", "fold", tmp_path / "checkpoint_last.pt", stock, "--safe")
    cfg = load_checkpoint(stock)["cfg"]
    assert cfg["criterion"]["_name"] == PLAIN
    assert cfg["optimizer"]["_name"] == "adam"
    words = ["--task", "translation", "--cpu", "--path", stock, "--max-tokens", "256"]
    out = run("fairseq-validate", data_bin, *words)
    assert figures(out, "loss")


def test_fused_layers_come_and_go(data_bin, tmp_path):
    """A training goes on with and without the flag; what is generated is the same."""
    folder = tmp_path / "run"
    dropout = ["--dropout", "0", "--update-epoch-batch-itr", "True"]
    go(data_bin, folder, NAME, "--fused-layers", *dropout, updates=6)
    go(data_bin, tmp_path / "stock", PLAIN, *dropout, updates=6)
    last = load_checkpoint(folder / "checkpoint_last.pt")
    assert last["cfg"]["model"].fused_layers is True
    for flags in ([], ["--fused-layers"]):
        updates = 12 if not flags else 18
        resumed = go(data_bin, folder, PLAIN, *flags, *dropout, updates=updates)
        assert "Loaded checkpoint" in resumed.stdout
        go(data_bin, tmp_path / "stock", PLAIN, *dropout, updates=updates)
    ours, theirs = (load_checkpoint(f / "checkpoint_last.pt") for f in (folder, tmp_path / "stock"))
    assert list(ours["model"]) == list(theirs["model"])
    for name, weight in theirs["model"].items():
        torch.testing.assert_close(ours["model"][name], weight, rtol=5e-3, atol=5e-3, msg=name)

    command = ["fairseq-generate", data_bin, "--user-dir", USER_DIR, "--cpu", "--beam", "4"]
    command += ["--path", folder / "checkpoint_last.pt", "--max-len-b", "12", "--print-alignment"]
    found = []
    for value in (True, False):
        result = run(*command, "--model-overrides", f"{{'fused_layers': {value}}}")
        found.append(re.findall(r"^[HA]-\d+\t(?:\S+\t)?(.*)$", result.stdout, re.MULTILINE))
    assert found[0] == found[1] and len(found[0]) == 2 * 27

    run("admin-fairseq", "fold", folder / "checkpoint_last.pt", tmp_path / "folded.pt")
    folded = load_checkpoint(tmp_path / "folded.pt")
    assert "fused_layers" not in vars(folded["args"] or folded["cfg"]["model"])


def test_fused_layers_measure_the_same_profile(data_bin, tmp_path):
    """Stage 1 sees branches and shortcuts as without the flag."""
    profiles = []
    for flags in ([], ["--fused-layers"]):
        folder = tmp_path / str(len(flags))
        words = ["--init-type", "adaptive-profiling", "--dropout", "0", *flags]
        train(data_bin, folder, *words)
        profiles.append(load_profile(folder / "admin.profile").omega)
    assert profiles[0] == pytest.approx(profiles[1], rel=1e-5)
