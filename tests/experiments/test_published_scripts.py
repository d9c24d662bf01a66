"""The papers' recipes, from archives of the real layout, against the scripts that they follow.

Stage by stage: tokens, what the filter leaves, BPE codes, BPE, data-bin. Once with the Perl scripts
restated, once with the Perl scripts run where a machine has them.
"""

import io
import tarfile

import pytest

from tests.experiments.corpora import HARD, bash, iwslt14, preparation, recipe, wmt14
from tests.experiments.perl import needed
from tests.experiments.restated import (
    SEGMENTS,
    STRAIGHT,
    TALKS,
    Perl,
    Restated,
    check_bpe,
    check_data_bin,
    every,
    lines_of,
    read,
    shell,
)

WAYS = [Restated(), pytest.param(Perl(), marks=needed)]
MERGES = 60


def prepared(folder, name, **changed):
    """out/ of a recipe and the archives in folder/in."""
    recipe(folder / f"{name}.ini", name, **changed)
    flags = preparation(folder, name) + ["--merges", str(MERGES), "--jobs", "1"]
    result = bash(f"prepare_{name.removesuffix('-fairseq')}.sh", *flags)
    assert result.returncode == 0, result.stdout
    return folder / "out"


def member(folder, archive, name):
    """The lines of a file in an archive, as tar unpacks it."""
    with tarfile.open(folder / "in" / archive) as tar:
        data = io.BytesIO(tar.extractfile(name).read())
    return lines_of(data.getvalue())


def compare(out, stage, langs, texts):
    """Compare the texts that a stage made; texts: subset -> its two sides."""
    for subset, sides in texts.items():
        for lang, lines in zip(langs, sides):
            assert read(out / stage / f"{subset}.{lang}") == list(lines), (stage, subset, lang)


def by_lang(langs, texts):
    return {subset: dict(zip(langs, sides)) for subset, sides in texts.items()}


@pytest.mark.slow
@pytest.mark.subprocess
@pytest.mark.parametrize("way", WAYS, ids=["restated", "perl"])
def test_iwslt14(tmp_path, way):
    """iwslt14de-en.sh: tokens, filter, lower case, every 23rd pair for validation, BPE."""
    iwslt14(tmp_path / "in", hard=HARD)
    out = prepared(tmp_path, "iwslt14_de-en")
    langs, sides, test = ("de", "en"), [], []
    for lang in langs:
        talks = member(tmp_path, "de-en.tgz", f"de-en/train.tags.de-en.{lang}")
        sides.append(way.tokens(lang, shell(TALKS, talks)))
        text = []
        for name in ("TED.dev2010", "TEDX.dev2012", "TED.tst2010", "TED.tst2011", "TED.tst2012"):
            xml = member(tmp_path, "de-en.tgz", f"de-en/IWSLT14.{name}.de-en.{lang}.xml")
            text += shell(f"{SEGMENTS} | {STRAIGHT}", xml)
        test.append(way.lower(way.tokens(lang, text)))
    compare(out, "tok", langs, {"train": [way.lower(side) for side in sides], "test": test})
    kept = way.clean(tmp_path, sides, 1, 175, 1.5)
    train, valid = every([way.lower(side) for side in kept], 23)
    compare(out, "split", langs, {"train": train, "valid": valid})
    texts = by_lang(langs, {"train": train, "valid": valid, "test": test})
    check_bpe(out, *langs, texts, MERGES)
    check_data_bin(out, *langs, last_of(out, langs))


def last_of(out, langs, cleaned=None):
    """The texts after BPE, or what a filter left of them: what fairseq-preprocess gets."""
    texts = {}
    for subset in ("train", "valid", "test"):
        sides = (cleaned or {}).get(subset)
        texts[subset] = sides or [read(out / "bpe" / f"{subset}.{lang}") for lang in langs]
    return by_lang(langs, texts)


def wmt_train(folder, way, langs, corpora):
    """Both sides of train, as every script of WMT'14 tokenises them."""
    sides = []
    for lang in langs:
        tokens = []
        for archive, name in corpora:
            text = member(folder, archive, name.format(lang=lang))
            tokens += way.tokens(lang, way.printable(way.normalise(lang, text)), aggressive=True)
        sides.append(tokens)
    return sides


def wmt_test(folder, way, langs, stem):
    sides = []
    for side, lang in zip(("src", "ref"), langs):
        sgm = member(folder, "test-full.tgz", f"test-full/newstest2014-{stem}-{side}.{lang}.sgm")
        sides.append(way.tokens(lang, shell(f"{SEGMENTS} | {STRAIGHT}", sgm), aggressive=True))
    return sides


def en_de(commentary):
    return [
        ("training-parallel-europarl-v7.tgz", "training/europarl-v7.de-en.{lang}"),
        ("training-parallel-commoncrawl.tgz", "commoncrawl.de-en.{lang}"),
        (
            f"training-parallel-nc-{commentary}.tgz",
            f"training/news-commentary-{commentary}.de-en.{{lang}}",
        ),
    ]


@pytest.mark.slow
@pytest.mark.subprocess
@pytest.mark.parametrize("commentary", ["v12", "v9"])
@pytest.mark.parametrize("way", WAYS, ids=["restated", "perl"])
def test_wmt14_en_de(tmp_path, way, commentary):
    """wmt14en-de.sh: the filter counts tokens, before BPE; newstest2013 treated as train is."""
    wmt14(tmp_path / "in", "de", commentary=commentary, hard=HARD)
    out = prepared(tmp_path, "wmt14_en-de", news_commentary=commentary)
    langs, valid = ("en", "de"), []
    sides = wmt_train(tmp_path, way, langs, en_de(commentary))
    for lang in langs:
        text = member(tmp_path, "dev.tgz", f"dev/newstest2013.{lang}")
        printable = way.printable(way.normalise(lang, text))
        valid.append(way.tokens(lang, printable, aggressive=True))
    test = wmt_test(tmp_path, way, langs, "deen")
    compare(out, "tok", langs, {"train": sides, "valid": valid, "test": test})
    train = way.clean(tmp_path, sides, 1, 80)
    compare(out, "split", langs, {"train": train})
    texts = by_lang(langs, {"train": train, "valid": valid, "test": test})
    check_bpe(out, *langs, texts, MERGES)
    check_data_bin(out, *langs, last_of(out, langs))


def check_filtered_on_pieces(tmp_path, out, way, langs, sides, test, number):
    """fairseq's way, from tokens on: split, BPE of all, and the filter counts its pieces."""
    train, valid = every(sides, number)
    texts = {"train": train, "valid": valid, "test": test}
    compare(out, "tok", langs, {"train": sides, "test": test})
    compare(out, "split", langs, {"train": train, "valid": valid})
    check_bpe(out, *langs, by_lang(langs, texts), MERGES)
    cleaned = {}
    for subset in ("train", "valid"):
        pieces = [read(out / "bpe" / f"{subset}.{lang}") for lang in langs]
        cleaned[subset] = way.clean(tmp_path, pieces, 1, 250, 1.5)
    compare(out, "clean", langs, cleaned)
    check_data_bin(out, *langs, last_of(out, langs, cleaned))


@pytest.mark.slow
@pytest.mark.subprocess
@pytest.mark.parametrize("way", WAYS, ids=["restated", "perl"])
def test_wmt14_en_de_fairseq(tmp_path, way):
    """prepare-wmt14en2de.sh: every 100th line of train is validation."""
    wmt14(tmp_path / "in", "de", hard=HARD, pairs=400)
    out = prepared(tmp_path, "wmt14_en-de-fairseq")
    langs = ("en", "de")
    sides = wmt_train(tmp_path, way, langs, en_de("v12"))
    test = wmt_test(tmp_path, way, langs, "deen")
    check_filtered_on_pieces(tmp_path, out, way, langs, sides, test, 100)


@pytest.mark.slow
@pytest.mark.subprocess
@pytest.mark.parametrize("way", WAYS, ids=["restated", "perl"])
def test_wmt14_en_fr(tmp_path, way):
    """wmt14en-fr.sh, with every 7th line for every 1333rd."""
    wmt14(tmp_path / "in", "fr", hard=HARD, commentary="v9")
    out = prepared(tmp_path, "wmt14_en-fr", valid="every 7")
    langs = ("en", "fr")
    with tarfile.open(tmp_path / "in" / "training-giga-fren.tar") as tar:
        tar.extractall(tmp_path / "giga", filter="data")
    corpora = [
        ("training-parallel-europarl-v7.tgz", "training/europarl-v7.fr-en.{lang}"),
        ("training-parallel-commoncrawl.tgz", "commoncrawl.fr-en.{lang}"),
        ("training-parallel-un.tgz", "un/undoc.2000.fr-en.{lang}"),
        ("training-parallel-nc-v9.tgz", "training/news-commentary-v9.fr-en.{lang}"),
    ]
    sides = wmt_train(tmp_path, way, langs, corpora)
    for side, lang in zip(sides, langs):
        packed = tmp_path / "giga" / f"giga-fren.release2.fixed.{lang}.gz"
        text = shell(f"gunzip -c {packed}", [])
        side += way.tokens(lang, way.printable(way.normalise(lang, text)), aggressive=True)
    test = wmt_test(tmp_path, way, langs, "fren")
    check_filtered_on_pieces(tmp_path, out, way, langs, sides, test, 7)
