"""train, sweep, evaluate and score as subcommands: words, help, what they import, how they end."""

import contextlib
import functools
import os
import re
import signal
import subprocess
import sys
import time
from argparse import Namespace

import pytest

from admin_fairseq.cli import main
from admin_fairseq.errors import AdminError
from admin_fairseq.experiments.recipe import RECIPES, TO_TRAIN, read_recipe
from admin_fairseq.experiments.runs import command, machine, record, side_by_side, translation
from admin_fairseq.experiments.runs.checks import init_type_name
from admin_fairseq.experiments.runs.settings import Settings
from admin_fairseq.experiments.runs.start import run_command
from admin_fairseq.init_types import METHODS
from tests.experiments.test_train_script import tiny  # noqa: F401
from tests.helpers import light_seconds

# what would not be light
HEAVY = ("torch", "fairseq", "numpy", "sacrebleu", "sacremoses", "matplotlib")
SEE = f"""
import sys
from admin_fairseq.cli import main
code = main(sys.argv[1:])
heavy = [name for name in {HEAVY} if name in sys.modules]
sys.exit(f"imported: {{heavy}}" if heavy else code)
"""


def dry_run(capsys, *words):
    """The last command that ``--dry-run`` prints, as words."""
    code = main([*words, "--dry-run"])
    out, err = capsys.readouterr()
    assert code == 0, err
    return out.splitlines()[-1].split()


@pytest.mark.subprocess
def test_planning_imports_nothing_heavy_and_is_quick(tiny):  # noqa: F811
    program = tiny / "admin-fairseq"
    program.write_text(SEE)
    words = ["train", "tiny.ini", "--init-type", "admin", "--data", "data", "--dry-run"]
    before = os.times()
    subprocess.run([sys.executable, program, *words], cwd=tiny, check=True)
    after = os.times()
    spent = after.children_user + after.children_system
    assert spent - before.children_user - before.children_system < light_seconds()


@pytest.mark.parametrize("name", ["train", "sweep", "evaluate", "score"])
def test_help_and_unknown_flags(name, capsys):
    with pytest.raises(SystemExit) as end:
        main([name, "--help"])
    assert end.value.code == 0
    assert f"admin-fairseq {name}" in capsys.readouterr().out
    with pytest.raises(SystemExit) as end:
        main([name, "--nonsense"])
    assert end.value.code == 2


def test_what_follows_two_dashes_goes_to_fairseq_train(tiny, capsys, monkeypatch):  # noqa: F811
    monkeypatch.chdir(tiny)
    base = ["train", "tiny.ini", "--init-type", "default", "--data", "data"]
    words = dry_run(capsys, *base, "--cpu")
    assert record.flag_of(words, "--save-dir") == "runs/tiny/default-2-2-seed1"
    assert main([*base, "--dry-run", "--", "--num-workers", "0", "--", "-x"]) == 0
    words = capsys.readouterr().out.splitlines()[-1].split()
    at = words.index("--num-workers")
    assert words[at : at + 5] == ["--num-workers", "0", "--", "-x", "--save-dir"]
    assert main([*base, "--dry-run", "--", "--seed", "3"]) == 1
    assert "--seed: admin-fairseq sets it" in capsys.readouterr().err


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.name)
def test_every_word_of_a_method_is_the_same_run(method, tiny, capsys, monkeypatch):  # noqa: F811
    monkeypatch.chdir(tiny)
    commands = set()
    for word in (method.name, *method.aliases):
        words = dry_run(capsys, "train", "tiny.ini", "--init-type", word, "--data", "data")
        commands.add(tuple(words))
    assert len(commands) == 1
    words = list(commands.pop())
    assert record.flag_of(words, "--save-dir") == f"runs/tiny/{method.name}-2-2-seed1"
    assert record.flag_of(words, "--init-type") == method.flags["init_type"]
    for word in method.measuring:
        with pytest.raises(AdminError, match=f"say --init-type {method.name}: the profile is"):
            init_type_name(word)


def test_two_words_for_a_method_are_trained_once(tiny, capsys, monkeypatch):  # noqa: F811
    monkeypatch.chdir(tiny)
    words = ["sweep", "tiny.ini", "--data", "data", "--seeds", "1", "--dry-run", "--init-types"]
    assert main([*words, "admin", "adaptive", "post-ln"]) == 0
    lines = capsys.readouterr().out.splitlines()
    trained = [line for line in lines if "--save-dir runs/tiny/profiles" not in line]
    assert len([line for line in trained if line.startswith("fairseq-train")]) == 2
    assert main([*words, "admin", "admn", "nonsense"]) == 1
    err = capsys.readouterr().err
    assert "--init-type admn" in err and "--init-type nonsense" in err


def test_another_number_of_updates_is_a_variant(tiny, capsys, monkeypatch):  # noqa: F811
    monkeypatch.chdir(tiny)
    base = ["train", "tiny.ini", "--init-type", "default", "--data", "data", "--updates", "7"]
    words = dry_run(capsys, *base)
    assert record.flag_of(words, "--max-update") == "7" and "--max-epoch" not in words
    assert record.flag_of(words, "--save-dir") == "runs/tiny/default-2-2-seed1-updates7"
    words = dry_run(capsys, *base, "--no-warmup")
    assert record.flag_of(words, "--total-num-update") == "7"
    assert main([*base[:-1], "-3", "--layers", "six", "--lr", "x"]) == 1
    err = capsys.readouterr().err
    for part in ("--updates -3: must be at least 1", "--layers six", "--lr x: must be a number"):
        assert part in err


def test_the_quick_start_is_trained_as_its_script_did(tmp_path):
    """What its flags were before it was a recipe; the others are fairseq's defaults."""
    recipe = read_recipe("quickstart", TO_TRAIN)
    settings = Settings("adaptive", "18-18", 3, "data", cpu=True, updates=50, fast=False)
    words = command.fairseq_train(recipe, settings, tmp_path, "p")
    expected = {
        "--arch": "admin_transformer",
        "--encoder-embed-dim": "64",
        "--encoder-ffn-embed-dim": "128",
        "--dropout": "0.1",
        "--optimizer": "adam",
        "--adam-betas": "(0.9, 0.98)",
        "--lr": "0.001",
        "--warmup-updates": "300",
        "--warmup-init-lr": "1e-07",
        "--max-tokens": "1024",
        "--max-update": "50",
        "--num-workers": "0",
        "--update-epoch-batch-itr": "True",
        "--validate-interval-updates": "100",
        "--save-interval-updates": "100",
        "--keep-interval-updates": "1",
        "--log-interval": "20",
        "--init-type": "adaptive",
        "--seed": "3",
        "--attention-dropout": "0.0",
        "--activation-dropout": "0.0",
        "--weight-decay": "0.0",
        "--update-freq": "1",
    }
    assert {flag: record.flag_of(words, flag) for flag in expected} == expected
    assert "--no-epoch-checkpoints" in words and "--cpu" in words
    assert not {"--keep-last-epochs", "--max-epoch", "--patience"}.intersection(words)
    profile = command.fairseq_train(recipe, settings, tmp_path, "p", stage="profile")
    assert record.flag_of(profile, "--seed") == "3", "each run's profile is of its own seed"


def slept(folder, number):
    """A work that starts a process and waits for it."""
    process = subprocess.Popen(["sleep", "60"])
    try:
        (folder / str(number)).write_text(str(process.pid))
        process.wait()
    finally:
        process.kill()
        process.wait()


def sweep_of_sleepers(folder, _args):
    works = [functools.partial(slept, folder, number) for number in range(3)]
    side_by_side.run_all(works, 2, lambda *_: None)


def alive(folder):
    """The sleepers that still run."""
    found = []
    for path in folder.iterdir():
        with contextlib.suppress(OSError, ValueError):
            os.kill(int(path.read_text()), 0)
            found.append(path.name)
    return found


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_stopped_or_killed_a_sweep_takes_all_its_trainings_along(tmp_path, how):
    child = os.fork()
    if child == 0:
        code = run_command("sweep", functools.partial(sweep_of_sleepers, tmp_path), Namespace())
        os._exit(code)
    end = time.monotonic() + 30
    while len(alive(tmp_path)) < 2:
        assert time.monotonic() < end
        time.sleep(0.02)
    os.kill(child, how)
    _, status = os.waitpid(child, 0)
    if how != signal.SIGKILL:
        assert os.waitstatus_to_exitcode(status) == 130
        assert not alive(tmp_path)
    while alive(tmp_path):
        assert time.monotonic() < end
        time.sleep(0.02)
    assert len(list(tmp_path.iterdir())) == 2, "the third was not started"


def result_of(number):
    if number == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    return number * 10, os.environ["OMP_NUM_THREADS"]


def test_what_comes_of_each_work_and_a_killed_one_does_not_stop_the_others(monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS")
    found = {}
    works = [functools.partial(result_of, number) for number in range(5)]
    side_by_side.run_all(works, 2, found.__setitem__)
    assert found == {0: (0, "1"), 1: (10, "1"), 2: None, 3: (30, "1"), 4: (40, "1")}
    assert "OMP_NUM_THREADS" not in os.environ


def test_gpus_are_found_without_torch(tmp_path, monkeypatch):
    tool = tmp_path / "nvidia-smi"
    tool.write_text("#!/bin/sh\nprintf 'NVIDIA A\\nNVIDIA B\\nNVIDIA C\\n'\n")
    tool.chmod(0o755)
    monkeypatch.setattr(machine, "_version", lambda _: "2.13.0")
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    names = ["NVIDIA A", "NVIDIA B", "NVIDIA C"]
    visible = {
        None: names,
        "": [],
        "-1": [],
        "2": ["NVIDIA C"],
        "1, 0": ["NVIDIA B", "NVIDIA A"],
        "0,7,1": ["NVIDIA A"],
        "GPU-1234": ["NVIDIA A"],
    }
    for value, expected in visible.items():
        if value is None:
            monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
        else:
            monkeypatch.setenv("CUDA_VISIBLE_DEVICES", value)
        assert machine.gpus() == expected, value
        assert machine.defaults() == (not expected, max(1, len(expected)))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    settings = Settings("default", "6-6", 1, "data", processes=3)
    assert machine.hardware(settings) == "3 x NVIDIA A"
    monkeypatch.setattr(machine, "_version", lambda _: "2.13.0+cpu")
    assert machine.gpus() == []
    monkeypatch.setattr(machine, "_version", lambda _: "2.13.0")
    tool.write_text("#!/bin/sh\nexit 9\n")
    assert machine.gpus() == []


def test_outside_of_a_clone_the_commit_is_unknown(tmp_path, monkeypatch):
    assert machine.commit() != "unknown"
    monkeypatch.setattr(machine, "REPOSITORY", tmp_path)
    assert machine.commit() == "unknown"


def test_scores_of_any_translation(tmp_path, capsys):
    output, reference = tmp_path / "out", tmp_path / "ref"
    output.write_text("T-0\tein a-b Hund .\nH-0\t-0.1\tein a-b Hund .\n")
    reference.write_text("Ein a-b Hund.\n")
    words = ["score", str(output), "--reference", str(reference), "--lang", "de"]
    assert main([*words, "--lowercase", "--compound-splitting"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line[:15].strip() for line in lines] == [
        "tokenised BLEU",
        "split BLEU",
        "sacreBLEU",
        "chrF",
    ]
    assert all("100.00" in line for line in lines) and "tok:13a" in lines[2]
    reference.write_text("Ein a-b Hund.")  # without a line end
    assert main(words) == 0
    output.write_text("H-0\t-0.1\tein a-b Hund .\n")  # as fairseq-interactive prints it
    assert main(words) == 1
    assert "0 references (T lines) and 1 hypotheses" in capsys.readouterr().err
    output.write_text("T-0\tein a-b Hund .\nH-0\t-0.1\tein a-b Hund .\n")
    reference.write_text("a\nb\n")
    assert main(words) == 1
    assert "1 hypotheses" in capsys.readouterr().err
    assert main(["score", str(output), "--reference", str(tmp_path / "none"), "--lang", "de"]) == 1
    assert "none" in capsys.readouterr().err


def test_a_sweep_over_rates(tiny, capsys, monkeypatch):  # noqa: F811
    monkeypatch.chdir(tiny)
    words = ["sweep", "tiny.ini", "--data", "data", "--cpu", "--dry-run", "--lr", "1e-3", "6e-3"]
    assert main([*words, "--init-types", "post-ln", "admin-flat", "--seeds", "1", "2"]) == 0
    found = []
    for line in capsys.readouterr().out.splitlines():
        if "adaptive-profiling" not in line and not line.startswith("#"):
            command = line.split()
            found.append((record.flag_of(command, "--seed"), record.flag_of(command, "--lr")))
    # each rate of each method with one seed, before the next seed
    assert found == [("1", "1e-3"), ("1", "6e-3")] * 2 + [("2", "1e-3"), ("2", "6e-3")] * 2
    # two words for one rate, and a seed twice: one training each
    assert main([*words, "0.001", "--init-types", "post-ln", "--seeds", "1", "1"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [record.flag_of(line.split(), "--lr") for line in lines if "--lr" in line] == [
        "1e-3",
        "6e-3",
    ]


@pytest.mark.parametrize("rate", ["2e", "nan", "inf", "0", "-1e-3"])
def test_numbers_that_no_training_can_have(rate, tiny, capsys, monkeypatch):  # noqa: F811
    monkeypatch.chdir(tiny)
    words = ["tiny.ini", "--data", "data", "--cpu", "--dry-run", f"--lr={rate}", "--beta2=1"]
    assert main(["sweep", *words, "--seeds", "-1", "3"]) == 1
    said = capsys.readouterr().err
    assert f"--lr {rate}: must be a number above 0" in said
    assert "--beta2 1: must be a number from 0 to below 1" in said
    assert "--seeds -1: must be from 0 to 4294967295" in said and "--seeds 3" not in said
    assert main(["train", *words, "--init-type", "admin", "--seed", "4294967296"]) == 1
    assert "--seed 4294967296: must be" in capsys.readouterr().err


def test_how_long_a_translation_may_become(tmp_path):
    text = (RECIPES / "quickstart.ini").read_text()
    run = {"settings": {"layers": "18-18", "data": "data", "cpu": True}}

    def words(line):
        path = tmp_path / "own.ini"
        path.write_text(text.replace("max-len = 1 / 10", line))
        recipe = read_recipe(path, TO_TRAIN)
        return translation.fairseq_generate(run, tmp_path / "c.pt", "test", recipe)

    bounded = words("max-len = 1.5 / 10")
    assert record.flag_of(bounded, "--max-len-a") == "1.5"
    assert record.flag_of(bounded, "--max-len-b") == "10"
    assert "--max-len-b" not in words("")
    with pytest.raises(AdminError, match="max-len.*A times the source's tokens"):
        words("max-len = 10")


def test_the_fast_way_is_the_recipes_or_ones_own_choice(tmp_path):
    base = {"layers": "18-18", "seed": 1, "data": "data", "init_type": "adaptive", "cpu": True}
    text = re.sub("\nfast = .*", "", (RECIPES / "quickstart.ini").read_text())

    def words(line, **chosen):
        path = tmp_path / "own.ini"
        path.write_text(text.replace("[training]\n", f"[training]\n{line}\n"))
        settings = Settings(**base, **chosen)
        recipe = read_recipe(path, TO_TRAIN)
        found = command.fairseq_train(recipe, settings, "out", "p")
        kinds = [record.flag_of(found, name) for name in ("--criterion", "--optimizer")]
        return [*kinds, "--fused-layers" in found], settings.variant()

    slow = ["label_smoothed_cross_entropy", "adam", False]
    fast = ["fused_label_smoothed_cross_entropy", "fused_adam", True]
    assert words("") == (slow, "") and words("fast = yes") == (fast, "")
    assert words("fast = yes", fast=False) == (slow, "no-fast")
    assert words("fast = no", fast=True) == (fast, "fast")
    text = text.replace("optimizer = adam", "optimizer = radam")
    assert words("fast = yes")[0] == [fast[0], "radam", True]
