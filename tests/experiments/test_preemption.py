"""Trainings that are told to stop: they save, end, and go on as if nothing had been."""

import os
import re
import signal
import subprocess
import sys
import time

import pytest
import torch

from tests.experiments.test_train_script import script, tiny  # noqa: F401
from tests.helpers import REPOSITORY

BASE = ["tiny.ini", "--data", "data", "--cpu", "--tokens-per-update", "48", "--updates", "80"]
EXTRA = ["--", "--num-workers", "0", "--log-interval", "1", "--validate-interval", "9"]
ADMIN = ["--init-type", "adaptive", "--seed", "2"]


def wait_for(text, log, process, count=1):
    """Wait until a log has a text ``count`` times."""
    end = time.monotonic() + 120
    while not log.exists() or log.read_text().count(text) < count:
        assert process.poll() is None, log.read_text() if log.exists() else "no log"
        assert time.monotonic() < end
        time.sleep(0.02)


def weights(folder):
    return torch.load(folder / "checkpoint_last.pt", weights_only=True)["model"]


def assert_same_end(one, other):
    first, second = weights(one), weights(other)
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)


def saved_at(log):
    """The update at which a training said that it saved."""
    text = log.read_text()
    update = int(re.findall(r"told to stop: saved at update (\d+)", text)[-1])
    assert re.search(rf"Saved checkpoint \S+ \(epoch \d+ @ {update} updates", text)
    return update


@pytest.mark.subprocess
@pytest.mark.slow
@pytest.mark.parametrize(
    "how, processes, workers",
    # both signals, with and without a worker, one process and two
    [(signal.SIGUSR1, 1, 1), (signal.SIGTERM, 2, 0)],
)
def test_stopped_in_an_epoch_it_goes_on_bit_for_bit(tiny, how, processes, workers):  # noqa: F811
    flags = [*BASE, *ADMIN, "--processes", processes]
    extra = [str(workers) if word == "0" else word for word in EXTRA]
    runs = tiny / "runs"
    process = script("train.sh", tiny, *flags, "--dest", runs / "stopped", *extra, start=True)
    wait_for("train_inner", runs / "stopped" / "train.log", process, 5)
    process.send_signal(how)
    assert process.wait(60) == 130
    update = saved_at(runs / "stopped" / "train.log")
    assert 5 <= update < 80 and not (runs / "stopped" / "outcome.json").exists()
    second = script("train.sh", tiny, *flags, "--dest", runs / "stopped", *extra)
    assert second.returncode == 0, second.stdout
    text = (runs / "stopped" / "train.log").read_text()
    assert re.search(rf"Loaded checkpoint \S+ \(epoch \d+ @ {update} updates\)", text)
    assert "FAILED" not in text and "Traceback" not in text
    whole = script("train.sh", tiny, *flags, "--dest", runs / "whole", *extra)
    assert whole.returncode == 0, whole.stdout
    assert_same_end(runs / "stopped", runs / "whole")


@pytest.mark.subprocess
@pytest.mark.slow
def test_plain_fairseq_train_saves_only_where_it_is_asked_for(tiny):  # noqa: F811
    """Also when all of the job's processes get the signal, those that load data too."""
    listed = script("train.sh", tiny, *BASE, "--init-type", "default", "--dry-run", *EXTRA)
    line = listed.stdout.splitlines()[-1].replace("--num-workers 0", "--num-workers 1")
    line = re.sub(r"--save-dir \S+", "--save-dir plain", line)
    fairseq_train = os.path.join(os.path.dirname(sys.executable), "fairseq-train")
    words = [fairseq_train, *re.sub(r"\(0.9, 0.98\)", "(0.9,0.98)", line).split()[1:]]
    words = [word.strip("'") for word in words]

    def stop(log, **environment):
        with open(log, "w") as file:
            process = subprocess.Popen(
                words,
                cwd=tiny,
                stdout=file,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
            )
            wait_for("train_inner", log, process, 3)
            os.killpg(process.pid, signal.SIGTERM)
            return process.wait(60)

    assert stop(tiny / "killed.log") == -signal.SIGTERM
    assert not (tiny / "plain" / "checkpoint_last.pt").exists()
    assert stop(tiny / "saved.log", ADMIN_FAIRSEQ_SAVE_ON_SIGNAL="1") == 130
    assert saved_at(tiny / "saved.log") >= 3


@pytest.mark.subprocess
@pytest.mark.slow
def test_a_sweep_that_is_told_to_stop_saves_all_its_trainings(tiny):  # noqa: F811
    flags = [*BASE, "--init-types", "default", "--seeds", "1", "2", "3", "--jobs", "2"]
    process = script("sweep.sh", tiny, *flags, *EXTRA, start=True)
    folder = tiny / "runs" / "tiny"
    end = time.monotonic() + 120
    while len([log for log in folder.glob("*/train.log") if "train_inner" in log.read_text()]) < 2:
        assert process.poll() is None and time.monotonic() < end
        time.sleep(0.05)
    process.send_signal(signal.SIGUSR1)
    assert process.wait(60) == 130
    logs = sorted(folder.glob("*/train.log"))
    assert len(logs) == 2, "the third was not started"
    for log in logs:
        assert saved_at(log) >= 1
    assert not list(folder.glob("*/outcome.json"))


@pytest.mark.subprocess
@pytest.mark.parametrize("ends, code", [("exit 130", 130), ("exit 1", 1), ("exit 0", 0)])
def test_the_job_for_slurm_hands_the_signal_on_and_requeues(tmp_path, ends, code):
    """With stand-ins for Slurm's commands and for the training."""
    tools, scripts = tmp_path / "tools", tmp_path / "scripts"
    tools.mkdir()
    scripts.mkdir()
    job = (REPOSITORY / "scripts" / "train.slurm").read_text()
    assert "#SBATCH --signal=B:USR1@" in job and "#SBATCH --requeue" in job
    (scripts / "train.slurm").write_text(job)
    (scripts / "train.sh").write_text(
        f"trap 'sleep 0.3; touch saved; {ends}' USR1\ntouch begun\nwhile :; do sleep 0.05; done\n"
    )
    (tools / "srun").write_text('#!/bin/bash\nexec "$@"\n')
    (tools / "scontrol").write_text('#!/bin/bash\necho "$*" >> scontrol.txt\necho host1\n')
    for tool in tools.iterdir():
        tool.chmod(0o755)
    names = {"SLURM_JOB_NODELIST": "host[1-2]", "SLURM_JOB_ID": "77"}
    environment = {**os.environ, **names, "PATH": f"{tools}{os.pathsep}{os.environ['PATH']}"}
    process = subprocess.Popen(["bash", scripts / "train.slurm"], cwd=tmp_path, env=environment)
    end = time.monotonic() + 30
    while not (tmp_path / "begun").exists():
        assert time.monotonic() < end
        time.sleep(0.02)
    process.send_signal(signal.SIGUSR1)
    assert process.wait(30) == code and (tmp_path / "saved").exists()
    asked = (tmp_path / "scontrol.txt").read_text().splitlines()
    assert ("requeue 77" in asked) == (code == 130)
