"""evaluate.sh: the numbers against sacrebleu itself, and results.tsv when several write it."""

import re
import subprocess
from concurrent.futures import ProcessPoolExecutor

import pytest
import sacrebleu
from sacrebleu.metrics import CHRF

from admin_fairseq.cli import main
from admin_fairseq.errors import AdminError
from admin_fairseq.experiments import (
    results,
    scores,
)
from admin_fairseq.init_types import find_method
from admin_fairseq.logs import read_generation
from tests.experiments.test_train_script import script, tiny  # noqa: F401

HYPOTHESES = [
    "das ist ein Ost-West-Konflikt , sagt er .",
    "ein A-b - c -d e- Fall mit x-y-z heute .",
]
REFERENCES = [
    "das ist der Ost-West-Konflikt , sagte er .",
    "ein a-b - c -d e- Fall mit x-y-z heute .",
]
ROW = {"run": "r", "data": "d", "subset": "test", "init_type": "default", "depth": "6-6", "seed": 1}


def independent_split(text):
    """The rule of get_ende_bleu.sh, three characters at a time: x-y, and then from there on."""
    found, at = "", 0
    while at < len(text):
        left, hyphen, right = text[at], text[at + 1 : at + 2], text[at + 2 : at + 3].strip()
        if left != " " and hyphen == "-" and right:
            found += f"{left} ##AT##-##AT## {right}"
            at += 3
        else:
            found += left
            at += 1
    return found


@pytest.mark.parametrize("text", [*HYPOTHESES, *REFERENCES, "", "-", "a-b", "-a-", "a - b"])
def test_compounds_are_split_inside_of_words_only(text):
    assert scores.split_compounds(text) == independent_split(text)


def test_scores_are_sacrebleus():
    raw = ["Das ist der Ost-West-Konflikt, sagte er.", "Ein a-b - c -d e- Fall mit x-y-z heute."]
    found = {
        s.column: s
        for s in scores.scores(HYPOTHESES, REFERENCES, raw, "de", lowercase=True, compounds=True)
    }
    plain = sacrebleu.corpus_bleu(HYPOTHESES, [REFERENCES], tokenize="none", force=True).score
    both = [[independent_split(text) for text in side] for side in (HYPOTHESES, REFERENCES)]
    split = sacrebleu.corpus_bleu(both[0], [both[1]], tokenize="none", force=True).score
    texts = ["das ist ein Ost-West-Konflikt, sagt er.", "ein A-b - c -d e- Fall mit x-y-z heute."]
    assert found["bleu"].value == plain and found["bleu_split"].value == split != plain
    assert found["sacrebleu"].value == sacrebleu.corpus_bleu(texts, [raw], lowercase=True).score
    assert found["chrf"].value == CHRF(lowercase=True).corpus_score(texts, [raw]).score
    assert found["chrf"].value != CHRF().corpus_score(texts, [raw]).score, (
        "case counts in this text"
    )
    assert "case:lc" in found["sacrebleu"].signature and "tok:13a" in found["sacrebleu"].signature
    assert "tok:none" in found["bleu"].signature and "nc:6" in found["chrf"].signature


def test_a_run_stands_in_results_once(tmp_path):
    path = tmp_path / "results.tsv"
    results.append(path, [{**ROW, "bleu": 1.0}, {**ROW, "subset": "test1"}])
    results.append(path, [{**ROW, "bleu": 2.0}])
    assert [(row["subset"], row["bleu"]) for row in results.read(path)] == [
        ("test", 2.0),
        ("test1", None),
    ]
    before = path.read_bytes()
    for bad in (
        {**ROW, "blue": 1},
        {**ROW, "bleu": "nan", "run": "x"},
        {**ROW, "depth": "six", "run": "x"},
    ):
        with pytest.raises(AdminError):
            results.append(path, [bad])
    assert path.read_bytes() == before


def _append(job):
    path, number = job
    for subset in ("test", "test1"):
        results.append(path, [{**ROW, "run": f"r{number}", "subset": subset}])


def test_two_evaluations_at_once_lose_nothing(tmp_path):
    path = str(tmp_path / "results.tsv")
    with ProcessPoolExecutor(4) as pool:
        list(pool.map(_append, [(path, number) for number in range(24)]))
    assert {(row["run"], row["subset"]) for row in results.read(path)} == {
        (f"r{number}", subset) for number in range(24) for subset in ("test", "test1")
    }


@pytest.mark.subprocess
@pytest.mark.parametrize("size", ["16k"])
def test_on_a_full_disk_results_stay_as_they_were(tmp_path, size):
    """A small file system in memory; mounting one wants root."""
    folder = tmp_path / "disk"
    folder.mkdir()
    if subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
    ).returncode:
        pytest.skip("no tmpfs can be mounted")
    try:
        results.append(folder / "results.tsv", [ROW])
        before = (folder / "results.tsv").read_bytes()
        with pytest.raises(OSError):
            results.append(
                folder / "results.tsv",
                [{**ROW, "run": f"r{number}", "variant": "v" * 100} for number in range(200)],
            )
        assert (folder / "results.tsv").read_bytes() == before
        assert sorted(path.name for path in folder.iterdir()) == ["results.tsv", "results.tsv.lock"]
    finally:
        subprocess.run(["umount", str(folder)], check=True)


@pytest.mark.subprocess
@pytest.mark.parametrize("name", ["train.sh", "evaluate.sh", "sweep.sh"])
def test_help_and_unknown_flags(name, tmp_path):
    assert script(name, tmp_path, "--help").returncode == 0
    assert script(name, tmp_path, "--nonsense").returncode == 2


def test_damage_is_named_by_line_and_column_all_at_once(tmp_path):
    path = tmp_path / "results.tsv"
    results.append(path, [{**ROW, "run": name} for name in "abcd"])
    lines = path.read_text().splitlines()
    lines[1] = lines[1].replace("\t6-6\t1\t", "\tdeep\tone\t")
    lines[2] += "\textra"
    lines[4] = lines[3]
    path.write_text("\n".join(lines))
    with pytest.raises(AdminError) as error:
        results.read(path)
    for part in (
        "line 2, column depth",
        "line 2, column seed",
        "line 3: 27 cells",
        "line 5: run c",
    ):
        assert part in str(error.value)


@pytest.mark.parametrize("content", [b"", b"method\tseed\nx\t1\n", b"\xff\xff", b"run\n"])
def test_foreign_files_are_refused(tmp_path, content, capsys):
    path = tmp_path / "results.tsv"
    path.write_bytes(content)
    assert main(["report", str(path)]) == 1
    assert "not a results.tsv" in capsys.readouterr().err
    assert main(["report", str(tmp_path / "none.tsv")]) == 1


@pytest.mark.slow
@pytest.mark.subprocess
def test_a_method_of_each_kind_from_training_to_report(tiny):  # noqa: F811
    """Two epochs each, averaged, translated, scored against the raw text, reported."""
    # their checkpoints hold no scale, omega, alpha and resweight
    types = ["default", "adaptive-flat", "deepnet", "rezero"]
    extra = ["--", "--num-workers", "0", "--warmup-updates", "99"]
    out = script(
        "sweep.sh",
        tiny,
        "tiny.ini",
        "--data",
        "data",
        "--cpu",
        "--seeds",
        "1",
        "--init-types",
        *types,
        *extra,
    )
    assert out.returncode == 0, out.stdout
    folders = sorted(path.parent for path in tiny.glob("runs/tiny/*/outcome.json"))
    result = script("evaluate.sh", tiny, *folders, tiny / "nothing")
    assert result.returncode == 1 and "nothing: no such folder" in result.stdout
    rows = results.read(tiny / "runs" / "tiny" / "results.tsv")
    assert {row["init_type"] for row in rows} == set(types) and not any(
        row["diverged"] for row in rows
    )
    for row in rows:
        references, hypotheses = read_generation(tiny / "runs" / "tiny" / row["run"] / "test.out")
        assert row["bleu"] == pytest.approx(
            sacrebleu.corpus_bleu(hypotheses, [references], tokenize="none").score, abs=1e-4
        )
        assert row["wall_clock"] > 0 and row["updates"] > 0 and row["averaged"] == "last 2 epochs"
        text = (tiny / "runs" / "tiny" / row["run"] / "test.out").read_text()
        assert re.search(r"^H-26\t", text, re.M), "all 27 sentences"
    first = min(folders)
    stamp = (first / "test.out").stat().st_mtime_ns
    assert main(["evaluate", str(first)]) == 0
    assert (first / "test.out").stat().st_mtime_ns == stamp, "what is translated stays"
    assert main(["evaluate", str(first), "--average", "1"]) == 0
    assert (first / "test.out").stat().st_mtime_ns != stamp, "another mean is translated anew"
    assert len(results.read(tiny / "runs" / "tiny" / "results.tsv")) == len(types)
    assert main(["report", str(tiny / "runs/tiny/results.tsv"), "--out", str(tiny / "out")]) == 0
    page = (tiny / "out" / "report.html").read_text()
    assert (
        all(f"<td>{find_method(name).label}</td>" in page for name in types)
        and page.count("data:image/png;base64,") == 2
    ), "two means, two tables"


def test_runs_behind_subsets_are_told_where_they_belong(tmp_path, capsys):
    assert main(["evaluate", "--subsets", "test", str(tmp_path)]) == 1
    assert "no RUN is named; --subsets takes every word after it" in capsys.readouterr().err
    assert main(["evaluate"]) == 1
    assert capsys.readouterr().err.endswith("evaluate: no RUN is named\n")
