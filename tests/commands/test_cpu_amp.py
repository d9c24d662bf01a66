"""``--cpu --amp`` in fairseq-train: profiling, resuming, several processes, what is saved."""

import re

import pytest
import torch

from admin_fairseq.checkpoints import load_checkpoint, read
from admin_fairseq.criterion import NAME
from admin_fairseq.profile import file as profile_file
from tests.commands.test_distributed import train_in_two
from tests.helpers import TRAIN_FLAGS, USER_DIR, run, train

pytestmark = pytest.mark.subprocess

COMMON = ["--amp", "--no-epoch-checkpoints"]
FUSED = ["--criterion", NAME, "--optimizer", "fused_adam"]


def go(data_bin, folder, *flags, updates=4, **kwargs):
    out = train(data_bin, folder, *COMMON, *flags, "--max-update", str(updates), **kwargs).stdout
    return out, read(folder / "checkpoint_last.pt")


def same_bits(weights, others):
    assert list(weights) == list(others)
    return all(torch.equal(weight, others[name]) for name, weight in weights.items())


def figure(out, name):
    return float(re.findall(rf"\b{name} ([\d.]+)", out)[-1])


def test_profiles_in_bfloat16_and_trains(data_bin, tmp_path):
    out, state = go(data_bin, tmp_path, "--init-type", "adaptive-auto", updates=2)
    assert "bfloat16 autocast over float32 weights" in out
    assert "likely no faster" in out, "with dimension 16"
    assert "CUDA is not available" not in out
    assert {weight.dtype for weight in state["model"].values()} == {torch.float32}
    profile = profile_file.load(tmp_path / "admin.profile")
    assert profile.provenance["precision"] == "amp"
    train(data_bin, tmp_path / "plain", "--init-type", "adaptive-profiling")
    exact = profile_file.load(tmp_path / "plain" / "admin.profile").omega
    assert profile.omega == pytest.approx(exact, rel=5e-3) and profile.omega != exact


@pytest.mark.slow
@pytest.mark.parametrize(
    "flags",
    [
        "--init-type adaptive-auto --checkpoint-activations --attention-dropout 0.1",
        "--init-type analytic --store-ema --ema-decay 0.9 --update-freq 2 --max-tokens 64 "
        + " ".join(FUSED),
    ],
)
def test_resumes_to_the_bit(data_bin, tmp_path, flags):
    words = [*flags.split(), "--disable-validation"]
    _, whole = go(data_bin, tmp_path / "whole", *words, updates=6)
    go(data_bin, tmp_path / "parts", *words, updates=3)
    out, resumed = go(data_bin, tmp_path / "parts", *words, updates=6)
    assert "Loaded checkpoint" in out and "num_updates=6" in out
    assert same_bits(whole["model"], resumed["model"])
    states = [state["last_optimizer_state"]["state"] for state in (whole, resumed)]
    for number, moments in states[0].items():
        assert moments["exp_avg"].dtype == torch.float32
        assert torch.equal(moments["exp_avg"], states[1][number]["exp_avg"])
    if "--store-ema" in words:
        assert same_bits(whole["extra_state"]["ema"], resumed["extra_state"]["ema"])


@pytest.mark.slow
def test_translates_and_validates_in_float32(data_bin, tmp_path):
    """While training, and from the checkpoint: the same numbers."""
    bleu = ["--eval-bleu", "--eval-bleu-args", '{"beam": 2, "max_len_b": 9}', *FUSED]
    out, _ = go(data_bin, tmp_path, "--init-type", "analytic", *bleu)
    path = ["--path", tmp_path / "checkpoint_last.pt", "--cpu", "--user-dir", USER_DIR]
    words = [*path, "--task", "translation", "--max-tokens", "256"]
    validated = run("fairseq-validate", data_bin, *words).stdout
    found = [re.findall(r"subset \| loss \S+ \| nll_loss \S+", text) for text in (validated, out)]
    assert found[0] and found[0][-1] == found[1][-1]
    out = run("fairseq-generate", data_bin, *path, "--beam", "2", "--max-tokens", "256").stdout
    assert len(re.findall(r"^H-", out, re.MULTILINE)) == 27


@pytest.mark.slow
def test_fairseq_goes_on_without_the_plugin(data_bin, tmp_path):
    words = ["--save-dir", tmp_path, "--cpu", *COMMON, "--disable-validation", *TRAIN_FLAGS]
    words[words.index("--arch") + 1] = "transformer"
    words[words.index("--optimizer") + 1] = "adam"
    run("fairseq-train", data_bin, "--user-dir", USER_DIR, *words, "--max-update", "2")
    # without the plugin today's torch refuses what fairseq keeps in a checkpoint
    env = {"TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD": "1"}
    out = run("fairseq-train", data_bin, *words, "--max-update", "4", env=env).stdout
    assert "Loaded checkpoint" in out and "num_updates=4" in out and "bfloat16" not in out


@pytest.mark.slow
def test_two_processes(data_bin, tmp_path):
    losses = []
    for name, flags in (("amp", COMMON), ("float32", COMMON[1:])):
        words = [*flags, "--init-type adaptive-auto --max-update 4", *FUSED]
        out = train_in_two(data_bin, tmp_path / name, *words).stdout
        assert "num_updates=4" in out
        losses.append(figure(out.split("| train |")[-1], "loss"))
    assert losses[0] == pytest.approx(losses[1], rel=0.01)
    states = [
        load_checkpoint(tmp_path / name / "checkpoint_last.pt") for name in ("amp", "float32")
    ]
    assert not same_bits(*(state["model"] for state in states))


def test_half_precision_weights_are_refused_in_one_message(data_bin, tmp_path):
    words = [*COMMON, "--init-type", "analytic", "--bf16", "--no-save"]
    result = train(data_bin, tmp_path, *words, check=False)
    assert result.returncode == 1 and "Traceback" not in result.stdout
    assert "--amp, which is for float32 weights, cannot work with:" in result.stdout
    assert "--bf16: weights would be in half precision" in result.stdout
