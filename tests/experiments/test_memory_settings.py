"""What a recipe's commands tell glibc's allocator, and when they leave it alone."""

import platform
import sys

import pytest

from admin_fairseq.experiments import processes
from admin_fairseq.experiments.processes import keeping_memory
from admin_fairseq.experiments.runs import children

NAMES = ["MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_", "MALLOC_TOP_PAD_"]


@pytest.fixture
def glibc(monkeypatch):
    def be(name, version):
        monkeypatch.setattr(platform, "libc_ver", lambda: (name, version))

    be("glibc", "2.36")
    return be


@pytest.mark.parametrize("version, threshold", [("2.36", 2**30), ("2.41", 2**30), ("2.31", 2**25)])
def test_glibc_keeps_memory(glibc, version, threshold):
    glibc("glibc", version)
    settings = keeping_memory({"HOME": "/"})
    assert list(settings) == NAMES and settings[NAMES[0]] == str(threshold)


@pytest.mark.parametrize(
    "environment",
    [
        {"MALLOC_ARENA_MAX": "2"},
        {"MALLOC_MMAP_THRESHOLD_": "1"},
        {"GLIBC_TUNABLES": "glibc.malloc.arena_max=1"},
        {"LD_PRELOAD": "/usr/lib/libjemalloc.so.2"},
    ],
)
def test_what_somebody_chose_stays(glibc, environment):
    assert keeping_memory(environment) == {}


@pytest.mark.parametrize("library", [("", ""), ("musl", "1.2")])
def test_other_libraries_are_left_alone(glibc, library):
    glibc(*library)
    assert keeping_memory({}) == {}


def test_a_command_is_told(glibc, monkeypatch, tmp_path):
    for name in (*NAMES, "GLIBC_TUNABLES", "LD_PRELOAD"):
        monkeypatch.delenv(name, raising=False)
    script = f"import os; print([os.environ.get(name) for name in {NAMES}], os.environ['X'])"
    words = [sys.executable, "-c", script]
    expected = f"{[str(value) for value in processes._KEPT.values()]} 1\n"
    log = tmp_path / "log"
    with open(log, "w") as file:
        assert children.run(words, file, {"X": "1"}) == 0
    assert log.read_text() == expected
    with open(log, "w") as file, children.training(words, file, {"X": "1"}) as started:
        started.process.wait()
    assert log.read_text() == expected
