"""The scripts, the generated corpus, and what is said when something is wrong."""

import gzip
import os
import random
import re
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

from admin_fairseq import needs
from admin_fairseq.experiments import results
from admin_fairseq.experiments.corpus import numbers_and_dates
from admin_fairseq.experiments.corpus.text import Tokenising, tokenise_lines
from admin_fairseq.experiments.recipe import RECIPES
from admin_fairseq.experiments.scores import detokenise
from admin_fairseq.logs import read_generation
from admin_fairseq.profile import file as profile_file
from tests.experiments.report_runs import row, write_run
from tests.helpers import REPOSITORY
from tests.profiles import made_up

pytestmark = pytest.mark.subprocess

SCRIPTS = REPOSITORY / "scripts"


def bash(*words, env=None, cwd=None):
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, **(env or {})}
    command = ["bash", *(str(word) for word in words)]
    return subprocess.run(
        command,
        env=environment,
        cwd=cwd,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def make_corpus(seed=1, train=300):
    """The generated texts: name -> lines."""
    texts = {}
    sizes = {"test": 20, "valid": 20, "train": train}
    for subset, pairs in numbers_and_dates.make_pairs(seed, sizes):
        for column, lang in enumerate(numbers_and_dates.LANGUAGES):
            texts[f"{subset}.{lang}"] = [pair[column] for pair in pairs]
    return texts


def test_the_corpus_is_the_same_every_time():
    first = make_corpus()
    assert first == make_corpus()
    assert first != make_corpus(seed=2)
    larger = make_corpus(train=400)
    assert larger["test.de"] == first["test.de"] and larger["valid.en"] == first["valid.en"]


def test_the_corpus_has_no_sentence_twice():
    corpus = make_corpus()
    assert {name: len(lines) for name, lines in corpus.items()} == {
        f"{split}.{lang}": size
        for split, size in (("train", 300), ("valid", 20), ("test", 20))
        for lang in ("en", "de")
    }
    english = corpus["train.en"] + corpus["valid.en"] + corpus["test.en"]
    assert len(set(english)) == len(english)


def test_the_corpus_translates():
    times = dict(numbers_and_dates.time(random.Random(seed)) for seed in range(500))
    assert times["at half past eight"] == "um halb neun"
    assert times["at quarter to two"] == "um Viertel vor zwei"
    dates = [numbers_and_dates.date(random.Random(seed)) for seed in range(200)]
    assert all(
        re.fullmatch(r"am \w+tag dem \w+n \w+ \w+|am Mittwoch dem \w+n \w+ \w+", de)
        for _, de in dates
    )


@pytest.mark.parametrize(
    "script",
    [
        "quickstart.sh",
        "reproduce_figures.sh",
        "prepare_multi30k.sh",
        "prepare_iwslt14_de-en.sh",
        "prepare_wmt14_en-de.sh",
        "prepare_wmt14_en-fr.sh",
    ],
)
def test_help_and_unknown_flags(script):
    environment = {"VENV": "/nonexistent"}
    assert bash(SCRIPTS / script, "--help", env=environment).returncode == 0
    assert bash(SCRIPTS / script, "--nonsense", env=environment).returncode == 2


@pytest.mark.parametrize("script", sorted(path.name for path in SCRIPTS.glob("*.sh")))
def test_help_is_the_scripts_own_and_touches_nothing(script, tmp_path):
    environment = {"VENV": str(tmp_path / "venv"), "HOME": str(tmp_path)}
    result = bash(SCRIPTS / script, "--help", env=environment, cwd=tmp_path)
    assert result.returncode == 0, result.stdout
    assert re.search(r"usage: |bash scripts/|To be sourced", result.stdout.splitlines()[0])
    assert not list(tmp_path.iterdir())


def test_a_half_made_environment_does_not_hide_a_good_one(tmp_path):
    (tmp_path / "bin").mkdir()
    python = tmp_path / "bin" / "python"
    python.write_text("#!/bin/sh\nexit 1\n")
    python.chmod(0o755)
    result = bash(SCRIPTS / "prepare_multi30k.sh", "--help", env={"VENV": str(tmp_path)})
    assert result.returncode == 0 and "usage: admin-fairseq prepare" in result.stdout
    assert "has no admin-fairseq: looking in PATH" in result.stdout


def test_another_python_stops_at_once_and_names_a_way_out(tmp_path):
    old = tmp_path / "python3.10"
    old.write_text("#!/bin/sh\nexit 1\n")
    old.chmod(0o755)
    for script in ("quickstart.sh", "test.sh"):
        result = bash(SCRIPTS / script, env={"PYTHON": str(old), "VENV": str(tmp_path / "venv")})
        assert result.returncode == 1
        assert (
            "no Python 3.11, 3.12, 3.13 or 3.14" in result.stdout
            and "uv python install" in result.stdout
        )
    assert not (tmp_path / "venv").exists()


def setup_env(program, **environment):
    return bash("-c", f"source {SCRIPTS / 'setup_env.sh'}; {program}", env=environment)


def test_a_torch_that_is_there_stays(tmp_path):
    """Whatever release it is: a cluster's own was made for it."""
    constraints = SCRIPTS / "constraints.txt"
    lines = setup_env(f"constraints {constraints}").stdout.splitlines()
    named = [line for line in lines if line.startswith(("torch==", "numpy=="))]
    assert named == [f"torch=={version('torch')}"]
    assert "ve-fairseq==0.12.3" in lines
    (tmp_path / "python").write_text("#!/bin/sh\nexit 1\n")  # it has no torch
    (tmp_path / "python").chmod(0o755)
    without = setup_env(f"PATH={tmp_path}:$PATH; constraints {constraints}")
    assert without.stdout == constraints.read_text()


def test_who_needs_the_python_sources_of_fairseq():
    expected = needs.has_wheel()
    assert (setup_env("has_fairseq_wheel").returncode == 0) == expected


def test_an_installation_that_fails_says_the_way_out(tmp_path):
    (tmp_path / "bin").mkdir()
    python = tmp_path / "bin" / "python"
    # pip is there, and installs nothing
    python.write_text('#!/bin/sh\n[ "$3" = --version ]\n')
    python.chmod(0o755)
    result = setup_env("setup_env test", VENV=str(tmp_path))
    assert result.returncode == 1 and "the installation failed" in result.stdout
    assert "compiler" in result.stdout and "docs/where_it_runs.md" in result.stdout
    assert not (tmp_path / "installed").exists()


def test_a_second_interpreter_is_skipped_where_it_lacks_and_used_where_it_is(tmp_path):
    script = SCRIPTS / "test_other_python.sh"
    result = bash(script, "--version", env={"XDG_CACHE_HOME": str(tmp_path)})
    assert result.returncode == 0 and result.stdout.startswith("skipped: the quick tests")
    assert "--make" in result.stdout and not list(tmp_path.iterdir())
    folder = tmp_path / "admin_fairseq" / "venv-3.13" / "bin"
    folder.mkdir(parents=True)
    python = folder / "python"
    # this Python stands in for the other one, and fails in its tests
    python.write_text(
        f'#!/bin/sh\n[ "$2" != pytest ] && exec {sys.executable} "$@"\necho "$@"\nexit 3\n'
    )
    python.chmod(0o755)
    result = bash(script, env={"XDG_CACHE_HOME": str(tmp_path)})
    assert result.returncode == 3 and "the quick tests on Python 3." in result.stdout
    named = re.findall(r"tests/\S+\.py(?=[: ])", result.stdout)
    assert "tests/commands/test_matrix.py" in named
    assert all((REPOSITORY / name).is_file() for name in named)


def test_the_figures_need_linux(tmp_path):
    (tmp_path / "uname").write_text("#!/bin/sh\necho Darwin\n")
    (tmp_path / "uname").chmod(0o755)
    program = f"PATH={tmp_path}:$PATH bash {SCRIPTS / 'reproduce_figures.sh'} --dest {tmp_path}/x"
    result = bash("-c", program, env={"VENV": str(tmp_path / "venv")})
    assert result.returncode == 1 and "needs Linux" in result.stdout
    assert not (tmp_path / "x").exists() and not (tmp_path / "venv").exists()


def test_the_quick_start_reports_scores_samples_and_a_figure(tmp_path):
    rows = []
    for init_type, seed, wrong in (("default", 2, 1.0), ("adaptive", 1, 0.0)):
        run = f"{init_type}-18-18-seed1"
        write_run(tmp_path, run, seed, wrong)
        ppl = '| valid | {"valid_nll_loss": "1", "valid_ppl": "12.34", "valid_num_updates": "30"}\n'
        with open(tmp_path / run / "train.log", "a") as log:
            log.write(ppl)
        scores = {"sacrebleu": 100 * (1 - wrong), "chrf": 50.0, "updates": 30}
        signatures = {"sacrebleu_signature": "nrefs:1|tok:13a", "chrf_signature": "nc:6"}
        rows.append({**row(run, init_type, 1, 0.0), **scores, **signatures, "depth": "18-18"})
    results.append(tmp_path / "results.tsv", rows)
    (tmp_path / "data" / "raw").mkdir(parents=True)
    (tmp_path / "data" / "raw" / "test.en").write_text("one\ntwo\nthree\nfour\n")
    (tmp_path / "profiles").mkdir()
    profile_file.save(made_up(), tmp_path / "profiles" / "18-18-0.profile")
    words = [sys.executable, SCRIPTS / "quickstart_report.py", tmp_path]
    said = subprocess.run(words, capture_output=True, text=True, check=True).stdout
    _, (first, *_) = read_generation(tmp_path / "adaptive-18-18-seed1" / "test.out")
    assert (
        f"  source     one\n  reference  {first}\n  Admin      {first}\n  Post-LN    x x x" in said
    )
    assert "three" in said and "four" not in said
    assert "signatures: nrefs:1|tok:13a  and  nc:6\n" in said
    heading, admin, post_ln = [line.split() for line in said.splitlines()[-3:]]
    assert heading[:3] == ["18L-18L,", "seed", "1"] and heading[-3:] == ["exact", "of", "60"]
    assert admin == ["Admin", "30", "12.34", "100.0", "50.0", "60"]
    assert post_ln == ["Post-LN", "30", "12.34", "0.0", "50.0", "0"]
    assert (tmp_path / "quickstart.png").stat().st_size > 1000


def multi30k(folder, change=lambda name, text: text, compress=False):
    """Files with the names of Multi30k's, but of course not its text."""
    folder.mkdir()
    for split in ("train", "val", "test_2016_flickr", "test_2017_flickr", "test_2017_mscoco"):
        for lang in ("en", "de"):
            text = change(f"{split}.{lang}", 'A man\'s dog -- "runs" & jumps .\n' * 30)
            if compress:
                (folder / f"{split}.{lang}.gz").write_bytes(gzip.compress(text.encode()))
            else:
                (folder / f"{split}.{lang}").write_text(text)
    return folder


def prepare(tmp_path, source, merges="20", recipe=None):
    flags = ["--recipe", recipe] if recipe else []
    return bash(
        SCRIPTS / "prepare_multi30k.sh",
        "--from",
        source,
        "--dest",
        tmp_path / "out",
        "--merges",
        merges,
        "--jobs",
        1,
        *flags,
    )


def without_checksums(tmp_path, langs=("en", "de")):
    """A recipe satisfied with any text of a pair, to test the other stages without Multi30k."""
    lines = (RECIPES / "multi30k_en-de.ini").read_text().splitlines()
    start = lines.index("published_lines =")
    kept = [line for line in lines[:start] if not line.startswith(("source", "target"))]
    recipe = tmp_path / f"multi30k_{'-'.join(langs)}.ini"
    recipe.write_text("\n".join([*kept, f"source = {langs[0]}", f"target = {langs[1]}"]) + "\n")
    return recipe


def test_other_text_is_not_taken_for_multi30k(tmp_path):
    result = prepare(tmp_path, multi30k(tmp_path / "in"))
    assert result.returncode == 1
    assert "train.en: FAILED" in result.stdout and "test_2017_mscoco.de: FAILED" in result.stdout
    assert "not the files that the recipe means" in result.stdout
    assert not (tmp_path / "out" / "data-bin").exists()


def test_missing_and_damaged_files_are_named(tmp_path):
    assert "no such folder" in prepare(tmp_path, tmp_path / "none").stdout
    source = multi30k(tmp_path / "in", compress=True)
    damaged = source / "val.de.gz"
    damaged.write_bytes(damaged.read_bytes()[:30])
    result = prepare(tmp_path, source)
    assert result.returncode == 1 and "val.de.gz is damaged" in result.stdout
    damaged.unlink()
    result = prepare(tmp_path, source)
    assert result.returncode == 1 and "neither val.de.gz nor val.de" in result.stdout


@pytest.mark.slow
def test_prepares_and_goes_on_where_it_stopped(tmp_path):
    recipe = without_checksums(tmp_path)
    source = multi30k(tmp_path / "in", compress=True)
    result = prepare(tmp_path, source, recipe=recipe)
    assert result.returncode == 0, result.stdout
    out = tmp_path / "out"
    assert (out / "tok" / "train.en").read_text().splitlines()[
        0
    ] == 'a man \'s dog -- " runs " & jumps .'
    assert {path.name for path in (out / "raw").iterdir()} == {
        f"{subset}.{lang}"
        for subset in ("train", "valid", "test", "test1", "test2")
        for lang in ("en", "de")
    }
    for subset in ("test", "test1", "test2"):
        assert (out / "data-bin" / f"{subset}.en-de.de.idx").exists()

    def texts():
        return {
            path: path.read_bytes()
            for path in out.rglob("*")
            if path.is_file()
            and path.suffix != ".log"
            and path.parent.name != "stages"
            and "codes.5" not in path.name
        }

    files = texts()
    for stage in ("data-bin", "tok/valid.en", "bpe/codes.20"):
        subprocess.run(["rm", "-r", str(out / stage)], check=True)
        assert prepare(tmp_path, source, recipe=recipe).returncode == 0
    assert texts() == files
    assert prepare(tmp_path, source, merges="5", recipe=recipe).returncode == 0
    assert (out / "bpe" / "train.en").read_bytes() != files[out / "bpe" / "train.en"]
    assert prepare(tmp_path, source, recipe=recipe).returncode == 0
    assert texts() == files, "back to 20 merges"


def test_another_pair_needs_only_a_recipe(tmp_path):
    source = multi30k(tmp_path / "in")
    for path in list(source.glob("*.de")):
        path.rename(path.with_suffix(".fr"))
    recipe = without_checksums(tmp_path, ("en", "fr"))
    result = prepare(tmp_path, source, recipe=recipe)
    assert result.returncode == 0, result.stdout
    assert (tmp_path / "out" / "data-bin" / "test2.en-fr.fr.idx").exists()
    assert (tmp_path / "out" / "raw" / "test.fr").read_bytes() == (
        source / "test_2016_flickr.fr"
    ).read_bytes()


def test_moses_keeps_text_as_it_is():
    def tokens(text, lang, **how):
        return tokenise_lines(Tokenising(lang=lang, normalise=True, **how), text.splitlines())

    lines = tokens('Ein "Hund" & ein Ball, nicht\'s <b> [x].\n\nZwei.\n', "de")
    text = "".join(line + "\n" for line in lines)
    assert "&" in text and "&amp;" not in text and text.count("\n") == 3
    assert tokens("A Dog.\n", "en", lowercase=True) == ["a dog ."]
    assert detokenise(["two dogs , one ball ."], "en") == ["two dogs, one ball."]
