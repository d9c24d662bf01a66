"""Two processes on the CPU (gloo), started as the README says."""

import pytest
import torch
from admin_fairseq import profile_file
from admin_fairseq.average import load_checkpoint
from helpers import TRAIN_FLAGS, USER_DIR, run, train

TWO = """--cpu --ddp-backend legacy_ddp --distributed-backend gloo --distributed-init-method env://
--distributed-world-size 2 --distributed-rank $RANK --distributed-no-spawn"""


def train_in_two(data_bin, save_dir, *flags):
    words = [f"'{word}'" for word in TRAIN_FLAGS] + list(flags)
    command = f"exec fairseq-train {data_bin} --user-dir {USER_DIR} --save-dir {save_dir} {' '.join(words)} "
    command += " ".join(TWO.split())
    return run("torchrun", "--standalone", "--nproc-per-node", "2", "--no-python", "bash", "-c", command)


@pytest.fixture(scope="module")
def one_process(data_bin, tmp_path_factory):
    folder = tmp_path_factory.mktemp("one")
    train(data_bin, folder, "--init-type", "adaptive-profiling")
    return profile_file.load(folder / "admin.profile")


def test_profiling_measures_the_batch_of_one_device(data_bin, tmp_path, one_process):
    train_in_two(data_bin, tmp_path, "--init-type adaptive-profiling")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["admin.profile"]
    assert profile_file.load(tmp_path / "admin.profile").sites == one_process.sites


def test_auto_gives_every_process_the_same_omegas_and_resumes(data_bin, tmp_path, one_process):
    """fairseq compares gradient norms of the processes at every update: unequal omegas would stop it."""
    flags = "--init-type adaptive-auto --lr 1e-9 --no-epoch-checkpoints"
    out = train_in_two(data_bin, tmp_path, flags, "--max-update 3").stdout
    assert "num_updates=3" in out
    assert profile_file.load(tmp_path / "admin.profile").sites == one_process.sites
    state = load_checkpoint(tmp_path / "checkpoint_last.pt")
    for name, omega in one_process.omega.items():
        assert torch.allclose(state["model"][name + ".omega"], torch.tensor(omega)), name

    (tmp_path / "admin.profile").unlink()
    out = train_in_two(data_bin, tmp_path, flags, "--max-update 5").stdout
    assert "nothing is profiled" in out and "num_updates=5" in out
    assert not (tmp_path / "admin.profile").exists()
