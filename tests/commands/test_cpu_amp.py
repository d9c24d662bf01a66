"""``--cpu --amp`` in fairseq-train: resuming, several processes, what is saved, and messages."""

import re

import pytest
import torch

from admin_fairseq.checkpoints import load_checkpoint
from admin_fairseq.criterion import NAME
from admin_fairseq.profile import file as profile_file
from tests.commands.test_distributed import train_in_two
from tests.helpers import run, train

pytestmark = pytest.mark.subprocess

AUTO = ["--init-type", "adaptive-auto", "--amp", "--no-epoch-checkpoints", "--disable-validation"]
FUSED = ["--criterion", NAME, "--optimizer", "fused_adam"]


def same_bits(state, other):
    assert list(state["model"]) == list(other["model"])
    for name, weight in state["model"].items():
        assert weight.dtype == torch.float32
        if not torch.equal(weight, other["model"][name]):
            return False
    return True


def go(data_bin, folder, *flags, updates=4):
    out = train(data_bin, folder, *flags, "--max-update", str(updates)).stdout
    return out, load_checkpoint(folder / "checkpoint_last.pt")


@pytest.mark.slow
@pytest.mark.parametrize(
    "flags",
    [
        [],
        [*FUSED, "--update-freq", "2", "--max-tokens", "64", "--store-ema", "--ema-decay", "0.9"],
        ["--checkpoint-activations", "--optimizer", "adam", "--attention-dropout", "0.1"],
    ],
    ids=lambda flags: " ".join(flags) or "plain",
)
def test_resumes_to_the_bit(data_bin, tmp_path, flags):
    # the average of weights has to start with omegas that are set
    kind = ["--init-type", "analytic"] if "--store-ema" in flags else []
    flags = [*AUTO, *kind, *flags]
    out, whole = go(data_bin, tmp_path / "whole", *flags, updates=6)
    assert "bfloat16 autocast over float32 weights" in out and "CUDA is not available" not in out
    go(data_bin, tmp_path / "parts", *flags, updates=3)
    out, resumed = go(data_bin, tmp_path / "parts", *flags, updates=6)
    assert "Loaded checkpoint" in out and "num_updates=6" in out
    assert same_bits(whole, resumed)
    states = [state["last_optimizer_state"]["state"] for state in (whole, resumed)]
    for number, moments in states[0].items():
        assert torch.equal(moments["exp_avg"], states[1][number]["exp_avg"])
        assert moments["exp_avg"].dtype == torch.float32
    _, plain = go(data_bin, tmp_path / "plain", *(set(flags) - {"--amp"} and remove(flags)))
    assert not same_bits(whole, plain)


def remove(flags):
    return [flag for flag in flags if flag != "--amp"]
