"""Worker processes that are not forked, as on macOS, and on Linux from Python 3.14 on."""

import logging
import os
import shutil
import subprocess
import time

import pytest
import torch

from admin_fairseq.checkpoints import load_checkpoint
from admin_fairseq.experiments import processes
from admin_fairseq.experiments.corpus.parallel import ordered_map
from admin_fairseq.experiments.runs import children
from tests.conftest import write_corpus
from tests.helpers import REPOSITORY, TRAIN_FLAGS, USER_DIR, run

METHODS = ["spawn", "forkserver"]
START = """
import multiprocessing
import sys

multiprocessing.set_start_method({method!r}, force=True)
"""
every_method = pytest.mark.parametrize("method", METHODS)


def environment(folder, method):
    """An environment in which every command starts its workers by another method."""
    (folder / "sitecustomize.py").write_text(START.format(method=method))
    return {"PYTHONPATH": f"{folder}:{REPOSITORY}"}


@pytest.mark.subprocess
@pytest.mark.slow
def test_training_with_workers_is_the_same(data_bin, tmp_path):
    method = "spawn"  # and forkserver below: half a minute each
    flags = ["--user-dir", USER_DIR, "--cpu", *TRAIN_FLAGS, "--num-workers", 1]
    flags += ["--init-type", "adaptive-auto", "--max-update", 4]
    weights = []
    for name, env in (("fork", None), (method, environment(tmp_path, method))):
        run("fairseq-train", data_bin, *flags, "--save-dir", tmp_path / name, env=env)
        weights.append(load_checkpoint(tmp_path / name / "checkpoint_last.pt")["model"])
    for name, weight in weights[0].items():
        assert torch.equal(weight, weights[1][name]), name


@pytest.mark.subprocess
@pytest.mark.slow
def test_preprocessing_with_workers_is_the_same(tmp_path):
    method = "forkserver"
    write_corpus(tmp_path, {"train": 60})
    words = "fairseq-preprocess -s en -t de --trainpref train --workers 2 --destdir".split()
    for name, env in (("fork", None), (method, environment(tmp_path, method))):
        run(*words, name, cwd=tmp_path, env=env)
    for name in ("train.en-de.en.bin", "train.en-de.de.idx", "dict.de.txt"):
        assert (tmp_path / "fork" / name).read_bytes() == (tmp_path / method / name).read_bytes()


def upper(line):
    return line.upper()


@pytest.mark.subprocess
@every_method
def test_preparing_in_several_processes(tmp_path, method):
    """Its workers end with it, so it starts them itself."""
    program = (
        "from admin_fairseq.experiments.corpus.parallel import ordered_map\n"
        "from tests.commands.test_start_methods import upper\n"
        "print(list(ordered_map(upper, ['a', 'b'], 2)))\n"
    )
    env = environment(tmp_path, method)
    assert "['A', 'B']" in run("python", "-c", program, cwd=REPOSITORY, env=env).stdout
    assert list(ordered_map(upper, ["a"], 1)) == ["A"]


def test_what_only_linux_can_is_said_elsewhere(monkeypatch, caplog):
    monkeypatch.setattr(processes.sys, "platform", "darwin")
    monkeypatch.setattr(processes.ctypes, "CDLL", lambda _: pytest.fail("prctl is Linux's"))
    processes._tell_of_orphans.cache_clear()
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            processes.ending_with_us()
    assert caplog.text.count("not Linux") == 1
    processes.end_with(processes.os.getppid())


@pytest.mark.skipif(shutil.which("ps") is None, reason="this machine has no ps")
def test_who_started_whom_is_known_without_proc(tmp_path, monkeypatch):
    """SIGUSR1 reaches every process of a training that is told to save."""
    child = subprocess.Popen(["sh", "-c", "sleep 60 & wait"])
    try:
        while len(family := children._descendants(child.pid)) < 1:
            time.sleep(0.01)
        monkeypatch.setattr(children, "PROC", str(tmp_path))
        assert children._descendants(child.pid) == family
        assert child.pid in children._descendants(os.getpid())
        assert children.holders(tmp_path) == {}
        monkeypatch.setenv("PATH", str(tmp_path))
        assert children._descendants(child.pid) == []
    finally:
        for pid in family:
            os.kill(pid, 9)
        child.kill()
        child.wait()
