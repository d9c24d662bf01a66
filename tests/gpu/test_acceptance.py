"""The acceptance of a GPU, rehearsed on a CPU: its report, and what goes wrong on the way."""

import re
import time

import pytest

from tests.gpu.report import Report
from tests.gpu.runner import InPlace, Worker, run_all
from tests.gpu.settings import Settings
from tests.gpu.stand_ins import STAND_INS, nothing, passes
from tests.helpers import REPOSITORY, run


def report_of(tmp_path, phases, checks=STAND_INS, worker=Worker, prepare=nothing, seconds=600):
    """Run checks; return the report's lines, by the names of checks, its last line and its code."""
    started = time.time()
    report = Report(tmp_path / "report.txt")
    settings = Settings("cpu", str(tmp_path), deadline=started + seconds)
    run_all(phases, checks, prepare, settings, report, worker)
    code = report.close(started)
    lines = (tmp_path / "report.txt").read_text().splitlines()
    found = re.findall(r"^(\w+) +([\w-]+) +[\d.]+ s  (.*)$", "\n".join(lines), re.M)
    return {name: (word, text) for word, name, text in found}, lines[-1], code, lines


def test_a_check_that_fails_stops_no_other(tmp_path):
    names = ["raises", "exceeds", "passes", "has_no_gpu"]
    found, last, code, lines = report_of(tmp_path, [[names]], worker=InPlace)
    assert list(found) == names and code == 1
    assert found["raises"] == ("FAILED", "ValueError: no such value")
    assert found["exceeds"] == ("FAILED", "one with two: nan (at most 1)")
    assert found["passes"] == ("ok", "one with two: 0.5 (a figure) (at most 1)")
    assert found["has_no_gpu"] == ("skipped", "a GPU is needed")
    assert last.startswith("1 ok, 2 FAILED, 0 measured, 1 skipped; ")
    assert " " * 20 + "a detail" in lines and any("stand_ins.py" in line for line in lines)
    assert report_of(tmp_path, [[["passes", "has_no_gpu"]]], worker=InPlace)[2] == 0
    assert report_of(tmp_path, [[["has_no_gpu"]]], worker=InPlace)[2] == 1, "nothing was checked"


def test_the_report_is_written_as_it_goes(tmp_path):
    report = Report(tmp_path / "report.txt")
    report.add("first", passes(None), 1.0)
    assert "ok       first" in (tmp_path / "report.txt").read_text()
    report.close(time.time())


@pytest.mark.subprocess
def test_crashes_and_errors_of_cuda_end_only_their_process(tmp_path):
    lane = ["crashes", "says_its_process", "spoils", "passes"]
    found, _, code, _ = report_of(tmp_path, [[lane]])
    assert list(found) == lane and code == 1
    assert found["crashes"] == ("FAILED", "its process ended with exit code 7")
    assert found["spoils"][0] == "FAILED" and "illegal memory access" in found["spoils"][1]
    assert found["says_its_process"][0] == "measured"
    assert found["passes"][0] == "ok"


@pytest.mark.subprocess
@pytest.mark.slow
def test_what_is_left_when_the_time_is_used_up_is_skipped(tmp_path):
    phases = [[["says_its_process"]], [["hangs", "passes"], ["has_no_gpu"]], [["raises"]]]
    began = time.time()
    found, *_ = report_of(tmp_path, phases, seconds=12)
    assert time.time() - began < 60
    assert found["hangs"] == ("skipped", "it had not ended when the time was used up")
    assert found["passes"] == found["raises"] == ("skipped", "the time is used up")


def test_a_broken_identity_is_reported(tmp_path):
    from tests.gpu import numbers

    checks = {
        "broken": lambda settings: numbers.identity(settings, "fp32", omega=1.001),
        "omega-1-fp32": lambda settings: numbers.identity(settings, "fp32"),
        "recorded-omegas": numbers.recorded_omegas,
        "loss-bf16": lambda settings: numbers.loss(settings, "bf16"),
        "loss-fp16": lambda settings: numbers.loss(settings, "fp16"),
    }
    found, _, code, lines = report_of(tmp_path, [[list(checks)]], checks, InPlace)
    assert code == 1
    assert found["broken"][0] == "FAILED" and re.search(r" 87 of 87 tensors", found["broken"][1])
    assert found["omega-1-fp32"][0] == "ok" and " 0 of 87 tensors" in found["omega-1-fp32"][1]
    assert found["recorded-omegas"][0] == found["loss-bf16"][0] == "ok"
    assert found["loss-fp16"] == ("skipped", "--fp16 of fairseq's needs a GPU")
    assert any(line.strip() == "logits" for line in lines)


@pytest.mark.parametrize("name", ["adam", "loss"])
def test_other_wrong_numbers_are_seen(name, monkeypatch):
    from admin_fairseq import adam, fused_loss
    from tests.gpu import numbers

    check, settings = getattr(numbers, name), Settings("cpu", "")
    assert check(settings, "fp32").passed
    if name == "adam":
        monkeypatch.setattr(adam, "_root", lambda beta2, step: 1.0)  # no second bias correction
    else:
        share = fused_loss._Chunks._differentiate
        monkeypatch.setattr(
            fused_loss._Chunks,
            "_differentiate",
            lambda self, piece, x, *rest: share(self, piece, 1.001 * x, *rest),
        )
    assert not check(settings, "fp32").passed


def test_patterns_choose_checks_in_their_order():
    from tests.gpu.checks import CHECKS, PHASES, chosen

    names = [name for phase in PHASES for lane in phase for name in lane]
    assert sorted(names) == sorted(CHECKS)
    assert chosen(["*"]) == PHASES
    assert chosen(["fold", "loss-fp*"]) == [[["header"]], [["loss-fp32", "loss-fp16"], ["fold"]]]
    assert chosen(["nothing"]) == [[["header"]]]


@pytest.mark.parametrize(
    "flags,message",
    [
        (["--cpu", "--only", "nothing"], "--only nothing: there is no such check"),
        (["--cpu", "--data", "/"], "--data /: no dict.*.txt is there, nor in a data-bin in it"),
        (["--cpu", "--out", "/none/report"], "--out /none/report: there is no such folder"),
        ([], "torch sees no GPU here; --cpu rehearses"),
    ],
)
def test_wrong_calls(flags, message, capsys, monkeypatch):
    import torch

    from tests.gpu.__main__ import main

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert main(flags) == 2
    assert message in capsys.readouterr().err


def test_packages_that_are_missing_are_named(capsys, monkeypatch):
    import importlib.util

    from tests.gpu.__main__ import main

    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "babel" else 1)
    assert main(["--cpu"]) == 2
    assert re.search(r"has no babel; .*docs/speed.md", capsys.readouterr().err)


@pytest.mark.subprocess
@pytest.mark.slow
def test_the_script_from_another_folder(data_bin, tmp_path):
    script = REPOSITORY / "scripts" / "gpu_acceptance.sh"
    names = ["--only", "recorded-*", "two-stages", "resume", "timing-6-6-bf16", "adam-fp16"]
    (tmp_path / "corpus").symlink_to(data_bin.parent)
    flags = ["--cpu", "--out", "report.txt", "--data", "corpus", *names]
    output = run("bash", script, *flags, cwd=tmp_path).stdout
    report = (tmp_path / "report.txt").read_text()
    assert report in output
    for line in (
        r"measured header .*: a CPU: a rehearsal",
        r" {20}fairseq 0\.12.*, torch \d",
        r"ok       recorded-omegas ",
        r"ok       recorded-outputs ",
        r"skipped  adam-fp16 .*needs a GPU",
        r"ok       two-stages .* loss .* omega up to",
        r"ok       resume ",
        r"measured timing-6-6-bf16 ",
        r" {20}criterion, fused Adam +[\d.]+ \([\d.]+ to [\d.]+\), [\d.]+ ms$",
        r"4 ok, 0 FAILED, 1 measured, 1 skipped; \d+ s in all",
    ):
        assert re.search("^" + line, report, re.M), line
