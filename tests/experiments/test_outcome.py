"""Verdicts: a function of the set of runs; the unigram model; how long a run took."""

import itertools
import json
import math
import os
import shutil

import pytest
from fairseq.data import Dictionary, data_utils

from admin_fairseq import cli
from admin_fairseq.errors import AdminError
from admin_fairseq.experiments.recipe import TO_TRAIN, read_recipe
from admin_fairseq.experiments.runs import outcome, record, sweep
from admin_fairseq.experiments.runs.checks import check
from admin_fairseq.experiments.runs.settings import Settings
from admin_fairseq.experiments.runs.unigram import count_tokens, unigram_bits

UNIGRAM = 6.75
RECIPE = "[evaluation]\nreference-nll 6-6 = 2\n"


def write_run(folder, losses, recipe="r", end="done", updates=0, recipe_file="none.ini"):
    """A run that fairseq-train has ended: validation losses at updates 100, 200, ..."""
    folder.mkdir(parents=True)
    lines = []
    for number, loss in enumerate(losses, 1):
        fields = {"valid_nll_loss": str(loss), "valid_num_updates": str(100 * number)}
        lines.append(f"2026-01-01 | INFO | valid | {json.dumps(fields)}\n")
    (folder / "train.log").write_text("".join(lines))
    settings = {"layers": "6-6", "no_warmup": False, "extra": [], "updates": updates}
    words = ["fairseq-train", "data-bin", "-s", "en", "-t", "de", "--warmup-updates", "50"]
    facts = {"recipe": recipe, "recipe_file": str(recipe_file), "settings": settings}
    (folder / "run.json").write_text(json.dumps({**facts, "command": words}))
    return folder


@pytest.fixture
def known_unigram(monkeypatch):
    monkeypatch.setattr(outcome, "unigram_bits", lambda *_: UNIGRAM)


def verdicts(folder, runs, order):
    """What is said in the end of runs that ended in this order: name -> state."""
    for name in order:
        outcome.judge(write_run(folder / name, runs[name]))
    return {name: record.load_outcome(folder / name)["state"] for name in runs}


POST_LN = {"a": [6.76, 6.747], "b": [6.75, 6.749]}


@pytest.mark.parametrize("order", ["ab", "ba"])
def test_two_runs_at_the_unigram_model_have_both_diverged(tmp_path, known_unigram, order):
    assert verdicts(tmp_path, POST_LN, order) == {"a": "diverged", "b": "diverged"}


RUNS = {
    "admin": [5.0, 1.0],
    "half": [6.0, 5.0],
    "low": [6.5, 5.9],
    "short": [6.0],
    "flat": [6.7, 6.749],
}


def test_verdicts_are_a_function_of_the_set_of_runs(tmp_path, known_unigram):
    """In any order; a shorter run is compared at its own last update."""
    expected = {
        "admin": "done",
        "half": "done",
        "low": "diverged",
        "short": "done",
        "flat": "diverged",
    }
    for order in itertools.permutations(RUNS):
        assert verdicts(tmp_path / "-".join(order), RUNS, order) == expected
    assert verdicts(tmp_path / "alone", {"low": RUNS["low"]}, ["low"]) == {"low": "done"}


def test_a_crash_is_judged_by_itself_but_is_a_reference_for_others(tmp_path, known_unigram):
    crash = {"state": "diverged", "update": 300, "reason": "non-finite gradients"}
    expected = {
        "crashed": crash["reason"],
        "low": "plateau: 5.90 bits at the end, unigram model 6.75",
    }
    for order in (["crashed", "low"], ["low", "crashed"]):
        folder = tmp_path / "-".join(order)
        for name in order:
            if name == "crashed":
                outcome.judge(write_run(folder / name, [3.0, 1.0]), crash)
            else:
                outcome.judge(write_run(folder / name, RUNS["low"]))
        found = {name: record.load_outcome(folder / name)["reason"] for name in expected}
        assert found == expected


def test_runs_of_another_recipe_beside_it_do_not_count(tmp_path, known_unigram):
    outcome.judge(write_run(tmp_path / "other", [5.0, 1.0], recipe="other"))
    assert outcome.judge(write_run(tmp_path / "low", RUNS["low"]))["state"] == "done"


def test_a_recipe_may_say_what_its_runs_reach(tmp_path, known_unigram):
    """For runs of its length; a shorter one cannot reach it."""
    recipe = tmp_path / "r.ini"
    recipe.write_text(RECIPE)
    low = write_run(tmp_path / "runs" / "low", RUNS["low"], recipe_file=recipe)
    assert outcome.judge(low)["state"] == "diverged"
    short = write_run(tmp_path / "short" / "low", RUNS["low"], recipe_file=recipe, updates=200)
    assert outcome.judge(short)["state"] == "done"


@pytest.mark.subprocess
def test_a_run_whose_data_is_gone_keeps_its_verdict(tmp_path, monkeypatch):
    def bits(data_bin, *_):
        if data_bin == "gone":
            raise AdminError("gone")
        return UNIGRAM

    monkeypatch.setattr(outcome, "unigram_bits", bits)
    gone = write_run(tmp_path / "gone", RUNS["low"])
    before = outcome.judge(gone)
    facts = json.loads((gone / "run.json").read_text())
    facts["command"][1] = "gone"
    (gone / "run.json").write_text(json.dumps(facts))
    assert outcome.judge(write_run(tmp_path / "admin", RUNS["admin"]))["state"] == "done"
    assert record.load_outcome(gone) == before
    with pytest.raises(AdminError, match="gone"):
        outcome.judge(gone)


@pytest.mark.subprocess
def test_unigram_bits_against_a_count_by_hand(data_bin):
    tokens = {}
    for split in ("train", "valid"):
        lines = (data_bin.parent / f"{split}.de").read_text().splitlines()
        tokens[split] = [word for line in lines for word in [*line.split(), "</s>"]]
    counts = {word: tokens["train"].count(word) for word in set(tokens["train"])}
    bits = sum(math.log2(counts[word] / len(tokens["train"])) for word in tokens["valid"])
    expected = -bits / len(tokens["valid"])
    assert unigram_bits(data_bin, "en", "de") == pytest.approx(expected)


@pytest.mark.subprocess
def test_tokens_are_those_that_fairseq_reads(data_bin):
    words = Dictionary.load(str(data_bin / "dict.de.txt"))
    for split in ("train", "valid", "test"):
        stem = data_bin / f"{split}.en-de.de"
        dataset = data_utils.load_indexed_dataset(str(stem), words)
        expected = [0] * len(words)
        for index in range(len(dataset)):
            for token in dataset[index].tolist():
                expected[token] += 1
        found = count_tokens(stem).tolist()
        assert found + [0] * (len(expected) - len(found)) == expected


@pytest.mark.subprocess
def test_other_and_damaged_data_is_named(data_bin, tmp_path):
    for ending in ("idx", "bin"):
        name = f"train.en-de.de.{ending}"
        (tmp_path / name).write_bytes((data_bin / name).read_bytes())
    stem = tmp_path / "train.en-de.de"
    (tmp_path / "train.en-de.de.bin").write_bytes(b"12345678")
    with pytest.raises(AdminError, match=r"train.en-de.de.bin is damaged: it holds 4 token ids"):
        count_tokens(stem)
    index = tmp_path / "train.en-de.de.idx"
    index.write_bytes(index.read_bytes()[:20])
    with pytest.raises(AdminError, match="train.en-de.de.idx is damaged"):
        count_tokens(stem)
    index.write_bytes(b"TNTIDX\x00\x00" + index.read_bytes()[8:])
    with pytest.raises(AdminError, match="--dataset-impl mmap"):
        count_tokens(stem)
    with pytest.raises(AdminError, match="cannot be read"):
        count_tokens(tmp_path / "none")


@pytest.mark.subprocess
def test_data_of_another_kind_is_refused_before_training(data_bin, tmp_path):
    copy = tmp_path / "data-bin"
    shutil.copytree(data_bin, copy)
    recipe = read_recipe("quickstart", TO_TRAIN)
    settings = Settings("default", "2-2", 1, str(tmp_path))
    check(recipe, settings)
    index = copy / "train.en-de.de.idx"
    index.write_bytes(b"TNTIDX\x00\x00" + index.read_bytes()[8:])
    with pytest.raises(AdminError, match="not of --dataset-impl mmap"):
        check(recipe, settings)


def test_sessions_that_were_killed_took_no_negative_time(tmp_path):
    """The second was killed before it wrote a line; its log is that of the first."""
    log = tmp_path / "train.log"
    log.write_text("")
    os.utime(log, (130, 130))
    sessions = tmp_path / "sessions.tsv"
    sessions.write_text("100\t130\n500\t")
    with record.session(tmp_path):
        pass
    assert sessions.read_text().splitlines()[:2] == ["100\t130", "500\t500"]
    assert 30 <= record.wall_clock(tmp_path) <= 32
    sessions.write_text("100\t130\n500\t130\n700\t")  # as earlier releases wrote it
    assert record.wall_clock(tmp_path) == 30
    os.utime(log, (710, 710))
    with record.session(tmp_path):
        pass
    assert sessions.read_text().splitlines()[2] == "700\t710"
    assert record.wall_clock(tmp_path / "none") is None


def test_a_sweep_lists_the_last_verdicts(tmp_path, monkeypatch, capsys):
    """Of a run that a later one has shown to have diverged, too."""

    def train_all(recipe, cells, dest, args):
        folder = dest / cells[0].name()
        folder.mkdir()
        last = {"state": "diverged", "update": 3, "reason": "plateau"}
        record.save_outcome(folder, last)
        return {folder: "done after 3 updates", tmp_path / "failed": "failed"}, []

    monkeypatch.setattr(sweep, "check", lambda *_: None)
    monkeypatch.setattr(sweep, "train_all", train_all)
    words = ["--init-types", "post-ln", "--layers", "6-6", "--seeds", "1", "--cpu"]
    assert cli.main(["sweep", "quickstart", *words, "--dest", str(tmp_path)]) == 0
    first, second = capsys.readouterr().out.splitlines()
    assert first.endswith("\tdiverged at update 3 (plateau)") and second.endswith("failed\tfailed")
