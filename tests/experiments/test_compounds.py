"""BLEU with compounds split, against what the Perl scripts of tensor2tensor's way give."""

import random
import re
import subprocess

import pytest

from admin_fairseq.experiments import scores
from admin_fairseq.experiments.corpus.moses import Tokenizer
from tests.experiments.corpora import text_of
from tests.experiments.perl import SCRIPTS, needed, perl

WORDS = (
    "der die das ein Haus-Tür Ost-West-Konflikt E-Mail geht kommt sagt groß Über-ich x-y-z 3-mal "
    'U-Bahn Hund\'s "Wort" A-ß-c nicht-EU-Land'
).split(" ")
# What these gave for texts(): tokenizer.perl -q -l de [-a] | perl -ple 's{(\S)-(\S)}{$1
# ##AT##-##AT## $2}g' | multi-bleu.perl, of mosesdecoder's master at 75d4c67 under Perl 5.36
PERL = {"plain": 73.46, "tensor2tensor": 73.15, "on @-@": 78.67}


def texts():
    """Made-up translations and references; a fifth of the words differ."""
    rng = random.Random(12)
    hypotheses, references = [], []
    for _ in range(200):
        words = rng.choices(WORDS, k=rng.randint(4, 20))
        references.append(" ".join(words) + ".")
        others = [rng.choice(WORDS) if rng.random() < 0.2 else word for word in words]
        hypotheses.append(" ".join(others) + rng.choice(["", "."]))
    return hypotheses, references


def tokenised(aggressive):
    return [[Tokenizer("de", aggressive).tokenize(text) for text in side] for side in texts()]


def test_tensor2tensors_way():
    hypotheses, references = tokenised(aggressive=True)
    assert any(" @-@ " in text for text in references) and scores.is_escaped(references, texts()[1])
    found = {}
    for score in scores.scores(hypotheses, references, texts()[1], "de", compounds=True):
        found[score.column] = score.value
    assert round(found["bleu"], 2) == PERL["plain"]
    assert round(found["bleu_split"], 2) == PERL["tensor2tensor"] < PERL["on @-@"]
    # text tokenised without -a is scored the same
    for score in scores.scores(*tokenised(aggressive=False), texts()[1], "de", compounds=True):
        if score.column == "bleu_split":
            assert score.value == pytest.approx(found["bleu_split"], abs=1e-9)


def test_detokenised_scores_do_not_depend_on_escaping():
    raw = texts()[1]
    sides = [[], []]
    for escape in (False, True):
        for side in texts():
            sides[escape].append([Tokenizer("de", True, escape).tokenize(text) for text in side])
        assert scores.is_escaped(sides[escape][1], raw) == escape
    values = [
        [score.value for score in scores.scores(*pair, raw, "de", compounds=True)] for pair in sides
    ]
    assert values[0] == pytest.approx(values[1])
    assert not scores.is_escaped(["a &amp; amp ; b"], ["a &amp; b"]), "an entity as published"
    assert not scores.is_escaped(["a & b"], ["a & b"])


@needed
@pytest.mark.subprocess
@pytest.mark.parametrize("way", PERL)
def test_recorded_numbers_are_perls(tmp_path, way):
    sides = []
    for side in texts():
        aggressive = ["-a"] * (way != "tensor2tensor")
        lines = perl("tokenizer/tokenizer.perl", "-q", "-l", "de", *aggressive, lines=side)
        if way != "plain":
            split = ["perl", "-ple", r"s{(\S)-(\S)}{$1 ##AT##-##AT## $2}g"]
            run = subprocess.run(split, input=text_of(lines).encode(), stdout=-1, check=True)
            lines = run.stdout.decode()[:-1].split("\n")
        sides.append(lines)
    (tmp_path / "reference").write_text(text_of(sides[1]), encoding="utf-8")
    command = ["perl", str(SCRIPTS / "generic" / "multi-bleu.perl"), str(tmp_path / "reference")]
    run = subprocess.run(
        command, input=text_of(sides[0]).encode(), stdout=-1, stderr=subprocess.DEVNULL, check=True
    )
    assert re.match(rb"BLEU = ([\d.]+),", run.stdout)[1] == f"{PERL[way]:.2f}".encode()


@pytest.mark.parametrize(
    "text, split",
    [
        ("a-b", "a ##AT##-##AT## b"),
        ("a @-@ b", "a ##AT##-##AT## b"),
        ("Ost @-@ West-Konflikt", "Ost ##AT##-##AT## West ##AT##-##AT## Konflikt"),
        ("x-y-z", "x ##AT##-##AT## y-z"),
        ("x-ß-z", "x ##AT##-##AT## ß ##AT##-##AT## z"),
        ("- a - -b c- --", "- a - -b c- --"),
        ("a--b", "a ##AT##-##AT## -b"),
        ("", ""),
    ],
)
def test_compounds(text, split):
    assert scores.split_compounds(text) == split


@needed
@pytest.mark.subprocess
def test_compounds_against_perl():
    rng = random.Random(3)
    lines = ["".join(rng.choices("-- ab-ß\xa0-  ", k=rng.randint(0, 20))) for _ in range(2000)]
    split = ["perl", "-ple", r"s{(\S)-(\S)}{$1 ##AT##-##AT## $2}g"]
    run = subprocess.run(split, input=text_of(lines).encode(), stdout=-1, check=True)
    assert [scores.split_compounds(line) for line in lines] == run.stdout.decode()[:-1].split("\n")
