"""The comparison of init types: what it calls diverged, and the whole script on a small scale."""

import csv
import math
import sys

import compare_init_types as compare
import pytest

from tests.helpers import REPOSITORY, TRAIN_FLAGS


def test_unigram_bits_against_a_count_by_hand(data_bin):
    texts = {
        split: (data_bin.parent / f"{split}.de").read_text().splitlines()
        for split in ("train", "valid")
    }
    tokens = {
        split: [word for line in lines for word in [*line.split(), "</s>"]]
        for split, lines in texts.items()
    }
    counts = {word: tokens["train"].count(word) for word in set(tokens["train"])}
    expected = -sum(
        math.log2(counts[word] / len(tokens["train"])) for word in tokens["valid"]
    ) / len(tokens["valid"])
    assert compare.unigram_bits(data_bin) == pytest.approx(expected)


@pytest.mark.parametrize(
    "last, failed",
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
    assert compare.diverged([(50, 6.9), (100, last)], unigram=7.0, best=0.5) == failed


METHODS = ["Pre-LN", "Admin", "ReZero"]


def test_methods_are_trained_translate_and_are_reported(data_bin, tmp_path, monkeypatch, capsys):
    """Two updates each; then again, when nothing is left to do."""
    settings = {
        "train": " ".join(TRAIN_FLAGS[: TRAIN_FLAGS.index("--share-all-embeddings")])
        + " --lr 5e-3 --warmup-updates 4 --max-tokens 256 --max-update 2 --validate-interval-updates 1",
        "generate": "--beam 1 --max-len-b 10",
        "reference": "../test.de",
        "lowercase": False,
    }
    monkeypatch.setitem(compare.CORPORA, "quickstart", settings)
    monkeypatch.setenv("PATH", f"{sys.prefix}/bin:/usr/bin:/bin")
    monkeypatch.chdir(REPOSITORY)
    data = data_bin.parent / "corpus-of-the-card"
    data.mkdir(exist_ok=True)
    if not (data / "data-bin").exists():
        (data / "data-bin").symlink_to(data_bin)
    words = [
        "compare",
        "quickstart",
        str(data),
        "--dest",
        str(tmp_path),
        "--seeds",
        "1",
        "--methods",
        *METHODS,
    ]
    monkeypatch.setattr(sys, "argv", words)
    compare.main()
    first = capsys.readouterr().out
    assert [line.split("|")[1].strip() for line in first.splitlines() if line.startswith("| ")][
        1:
    ] == METHODS
    with open(tmp_path / "results.tsv", newline="") as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    assert [row["method"] for row in rows] == METHODS
    assert all(row["updates"] == "2" for row in rows)
    assert (tmp_path / "admin-seed1" / "admin.profile").exists()
    times = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("checkpoint_last.pt")}
    compare.main()
    assert times == {path: path.stat().st_mtime_ns for path in tmp_path.rglob("checkpoint_last.pt")}
