"""The comparison of init types: what is called diverged, and all of it on a small scale."""

import csv
import math
import re

import pytest

from admin_fairseq.experiments import results
from admin_fairseq.experiments.recipe import TO_TRAIN, read_recipe
from admin_fairseq.experiments.runs.command import fairseq_train, profile_seed
from admin_fairseq.experiments.runs.outcome import plateau
from admin_fairseq.experiments.runs.record import flag_of
from admin_fairseq.experiments.runs.settings import Settings
from admin_fairseq.experiments.runs.unigram import unigram_bits
from admin_fairseq.init_types import METHODS
from admin_fairseq.logs import read_log
from tests.helpers import run

RECIPE = """
[data]
source = en
target = de
lowercase = no

[model]
arch = admin_transformer_tiny
dims = 16 / 32 / 2
depths = 2-2
dropout = 0.1
attention-dropout = 0
activation-dropout = 0
xavier-ffn = no

[training]
optimizer = radam
betas = 0.9 / 0.98
lr = 5e-3
warmup = 4
label-smoothing = 0.1
weight-decay = 0
clip-norm = 0
tokens-per-update = 1 x 256
updates = 2
validate-every = 1
save-every = 1
workers = 0
seeds = 1

[evaluation]
average = 1
beam = 1
lenpen = 1
compound-splitting = no
"""
COMPARED = ["pre-ln", "adaptive", "rezero"]


def test_unigram_bits_against_a_count_by_hand(data_bin):
    tokens = {}
    for split in ("train", "valid"):
        lines = (data_bin.parent / f"{split}.de").read_text().splitlines()
        tokens[split] = [word for line in lines for word in [*line.split(), "</s>"]]
    counts = {word: tokens["train"].count(word) for word in set(tokens["train"])}
    expected = -sum(
        math.log2(counts[word] / len(tokens["train"])) for word in tokens["valid"]
    ) / len(tokens["valid"])
    assert unigram_bits(data_bin, "en", "de") == pytest.approx(expected)


@pytest.mark.parametrize(
    ("last", "failed"),
    [
        (0.5, False),
        (5.2, False),
        (5.5, True),
        (6.5, True),
        (7.5, True),
        (math.inf, True),
        (math.nan, True),
    ],
)
def test_diverged_is_having_learned_next_to_nothing(last, failed):
    best = [(50, 6.9), (100, 0.5)]
    assert (plateau([(50, 6.9), (100, last)], [best], unigram=7.0) is not None) == failed


# what the trainings of nmt-experiments/ were run with
SAME = {
    "--num-workers": "0",
    "--dropout": "0.1",
    "--optimizer": "adam",
    "--adam-betas": "(0.9, 0.98)",
    "--clip-norm": "0.0",
    "--lr-scheduler": "inverse_sqrt",
    "--warmup-init-lr": "1e-07",
    "--criterion": "label_smoothed_cross_entropy",
    "--label-smoothing": "0.1",
    "--log-interval": "20",
    "--seed": "3",
}
SMALL = {"--arch": "admin_transformer", "--encoder-embed-dim": "64", "--decoder-embed-dim": "64"}
SMALL.update({"--encoder-ffn-embed-dim": "128", "--decoder-ffn-embed-dim": "128"})
SMALL.update({"--encoder-attention-heads": "4", "--decoder-attention-heads": "4"})
SMALL.update({"--lr": "0.001", "--max-tokens": "1024", "--update-freq": "1"})
TRAININGS = [
    (
        "quickstart",
        "18-18",
        {
            **SMALL,
            "--optimizer": "fused_adam",
            "--criterion": "fused_label_smoothed_cross_entropy",
            "--warmup-updates": "300",
            "--max-update": "900",
            "--validate-interval-updates": "100",
            "--save-interval-updates": "100",
            "--keep-interval-updates": "1",
        },
    ),
    (
        "init_types-quickstart",
        "18-18",
        {
            **SMALL,
            "--warmup-updates": "300",
            "--max-update": "600",
            "--validate-interval-updates": "50",
            "--save-interval-updates": "100",
            "--keep-interval-updates": "1",
        },
    ),
    (
        "init_types-multi30k",
        "12-12",
        {
            "--arch": "admin_transformer_tiny",
            "--encoder-embed-dim": "128",
            "--decoder-ffn-embed-dim": "256",
            "--decoder-attention-heads": "4",
            "--lr": "0.0015",
            "--warmup-updates": "400",
            "--max-tokens": "2048",
            "--update-freq": "1",
            "--max-update": "480",
            "--validate-interval-updates": "60",
            "--save-interval-updates": "120",
            "--keep-interval-updates": "1",
        },
    ),
    (
        "figures",
        "18-18",
        {
            **SMALL,
            "--warmup-updates": "300",
            "--max-update": "400",
            "--validate-interval-updates": "50",
        },
    ),
    ("figures", "6-6", {**SMALL, "--warmup-updates": "100", "--max-update": "300"}),
]


@pytest.mark.parametrize(("name", "depth", "flags"), TRAININGS)
def test_the_recipes_train_with_the_flags_of_the_cards(name, depth, flags):
    recipe = read_recipe(name, TO_TRAIN)
    settings = Settings(init_type="default", layers=depth, seed=3, data="data", cpu=True)
    words = fairseq_train(recipe, settings, "run")
    encoder, decoder = depth.split("-")
    layers = {"--encoder-layers": encoder, "--decoder-layers": decoder}
    for flag, value in {**SAME, **layers, **flags}.items():
        assert flag_of(words, flag) == value, flag
    assert {"--cpu", "--share-all-embeddings"} <= set(words)
    assert ("--xavier-ffn" in words) == (name == "figures")
    assert ("--validate-interval-updates" in words) == ("--validate-interval-updates" in flags)
    # in all but the figures, which are of seed 1, each seed had a profile of its own
    assert profile_seed(recipe, settings) == (1 if name == "figures" else 3)


@pytest.fixture(scope="module")
def corpus(data_bin, tmp_path_factory):
    """The small corpus as ``admin-fairseq prepare`` leaves one: with data-bin and raw."""
    folder = tmp_path_factory.mktemp("prepared")
    (folder / "data-bin").symlink_to(data_bin)
    (folder / "raw").symlink_to(data_bin.parent)
    return folder


@pytest.mark.slow
@pytest.mark.subprocess
def test_methods_are_trained_translate_and_are_reported(corpus, tmp_path):
    """Two updates each; then again, when nothing is left to do."""
    recipe = tmp_path / "small.ini"
    recipe.write_text(RECIPE)
    dest = tmp_path / "runs"
    sweep = ["admin-fairseq", "sweep", recipe, "--init-types", "pre-ln", "admin", "rezero"]
    sweep += ["--cpu", "--processes", 1, "--jobs", 2, "--data", corpus, "--dest", dest]
    run(*sweep, cwd=tmp_path)
    folders = [dest / f"{name}-2-2-seed1" for name in COMPARED]
    assert all((folder / "checkpoint_last.pt").is_file() for folder in folders)
    assert len(list((dest / "profiles").glob("*.profile"))) == 1
    evaluate = ["admin-fairseq", "evaluate", *folders]
    run(*evaluate, cwd=tmp_path)
    rows = results.read(dest / "results.tsv")
    assert [row["init_type"] for row in rows] == COMPARED
    assert all(row["updates"] == 2 and row["sacrebleu"] is not None for row in rows)

    run("admin-fairseq", "report", dest / "results.tsv", cwd=tmp_path)
    with open(dest / "report" / "report.csv", newline="") as file:
        lines = {line["method"]: line for line in csv.DictReader(file)}
    order = [method.name for method in METHODS if method.name in COMPARED]
    assert list(lines) == order
    finals = {row["init_type"]: row["valid_nll"] for row in rows}
    common = max(finals.values())
    for name, line in lines.items():
        assert float(line["common_loss"]) == common
        assert float(line["valid_nll_mean"]) == finals[name]
        _, valid = read_log(dest / f"{name}-2-2-seed1" / "train.log")
        reached = [point["num_updates"] for point in valid if point["nll_loss"] <= common]
        assert line["updates_to_common_loss"] == str(reached[0] if reached else "never")
    slowest = max(finals, key=finals.get)
    assert lines[slowest]["updates_to_common_loss"] != "never"
    assert "updates to the common loss" in (dest / "report" / "report.md").read_text()

    files = [path for folder in folders for path in folder.iterdir() if path.suffix == ".pt"]
    times = {path: path.stat().st_mtime_ns for path in files}
    run(*sweep, cwd=tmp_path)
    run(*evaluate, cwd=tmp_path)
    assert times == {path: path.stat().st_mtime_ns for path in files}
    assert results.read(dest / "results.tsv") == rows


@pytest.mark.slow
@pytest.mark.subprocess
def test_a_run_that_learned_nothing_is_scored_when_asked(corpus, tmp_path):
    recipe = tmp_path / "small.ini"
    judged = RECIPE.replace("warmup = 4", "warmup = 1")
    recipe.write_text(judged + "reference-nll = 0\n")
    dest = tmp_path / "runs"
    sweep = ["admin-fairseq", "sweep", recipe, "--init-types", "post-ln", "--cpu"]
    said = run(*sweep, "--processes", 1, "--data", corpus, "--dest", dest, cwd=tmp_path).stdout
    folder = dest / "default-2-2-seed1"
    assert re.search(r"default-2-2-seed1: update 2, perplexity \d+\.\d\d\n", said)
    assert f"{folder}\tdiverged at update" in said

    run("admin-fairseq", "evaluate", folder, cwd=tmp_path)
    (row,) = results.read(dest / "results.tsv")
    assert row["diverged"] and row["sacrebleu"] is None and not (folder / "test.out").exists()
    run("admin-fairseq", "evaluate", folder, "--diverged", cwd=tmp_path)
    (row,) = results.read(dest / "results.tsv")
    assert row["diverged"] and row["sacrebleu"] is not None
    assert row["averaged"] == "last checkpoint"
