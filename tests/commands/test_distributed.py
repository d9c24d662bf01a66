"""Two processes on the CPU (gloo), started as docs/processes.md says."""

import os
import socket

import pytest
import torch

from admin_fairseq.checkpoints import load_checkpoint
from admin_fairseq.profile import file as profile_file
from admin_fairseq.profile import first_step
from admin_fairseq.profile.measure import profile_omega
from admin_fairseq.profile.shape import with_shape
from admin_fairseq.sites import named_sites
from tests import warm
from tests.helpers import TRAIN_FLAGS, USER_DIR, adaptive, batch, run, train

TWO = """--cpu --ddp-backend legacy_ddp --distributed-backend gloo --distributed-init-method env://
--distributed-world-size 2 --distributed-rank $RANK --distributed-no-spawn"""


def train_in_two(data_bin, save_dir, *flags):
    words = [f"'{word}'" for word in TRAIN_FLAGS] + list(flags)
    command = f"exec fairseq-train {data_bin} --user-dir {USER_DIR} --save-dir {save_dir} "
    command += " ".join(words + TWO.split())
    # both processes are forks of the warm one: torch and fairseq take longer than their work
    path = f"{warm.shared().folder}/bin{os.pathsep}{os.environ['PATH']}"
    start = ["torchrun", "--standalone", "--nproc-per-node", "2", "--no-python"]
    return run(*start, "bash", "-c", command, env={"PATH": path})


@pytest.fixture(scope="module")
def one_process(data_bin, tmp_path_factory):
    folder = tmp_path_factory.mktemp("one")
    train(data_bin, folder, "--init-type", "adaptive-profiling")
    return profile_file.load(folder / "admin.profile")


@pytest.mark.subprocess
def test_profiling_measures_the_batch_of_one_device(data_bin, tmp_path, one_process):
    train_in_two(data_bin, tmp_path, "--init-type adaptive-profiling")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["admin.profile"]
    assert profile_file.load(tmp_path / "admin.profile").sites == one_process.sites


@pytest.mark.slow
@pytest.mark.subprocess
def test_auto_trains_and_resumes(data_bin, tmp_path, one_process):
    flags = "--init-type adaptive-auto --omega-shape flat --lr 1e-9 --no-epoch-checkpoints"
    out = train_in_two(data_bin, tmp_path, flags, "--max-update 3").stdout
    assert "num_updates=3" in out
    expected = with_shape(one_process, "flat")
    assert profile_file.load(tmp_path / "admin.profile").sites == expected.sites
    state = load_checkpoint(tmp_path / "checkpoint_last.pt")
    for name, omega in expected.omega.items():
        assert torch.allclose(state["model"][name + ".omega"], torch.tensor(omega)), name

    (tmp_path / "admin.profile").unlink()
    out = train_in_two(data_bin, tmp_path, flags, "--max-update 5").stdout
    assert "nothing is profiled" in out and "num_updates=5" in out
    assert not (tmp_path / "admin.profile").exists()


def share(rank, port, results):
    """One of two processes: the first has a profile, the second is given its omegas."""
    torch.distributed.init_process_group(
        "gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=2
    )
    model = adaptive()
    profile = profile_omega(model, batch()) if rank == 0 else None
    first_step.share_from_first_process(model, profile)
    results.put((rank, [site.omega.tolist() for site in named_sites(model).values()]))
    torch.distributed.barrier()
    torch.distributed.destroy_process_group()


def test_every_process_gets_the_omegas_of_the_first():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    context = torch.multiprocessing.get_context("spawn")
    results = context.SimpleQueue()
    torch.multiprocessing.spawn(share, (port, results), nprocs=2)
    omegas = dict(results.get() for _ in range(2))
    assert omegas[0] == omegas[1]
    assert len({site[0] for site in omegas[1]}) == 9, "two ones, and all others differ"
