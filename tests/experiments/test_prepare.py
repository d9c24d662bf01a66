"""The preparation scripts, from archives of the published layout to data-bin, without a network."""

import subprocess
import sys
from pathlib import Path

import pytest
from sacremoses import MosesPunctNormalizer, MosesTokenizer

from admin_fairseq.errors import AdminError
from admin_fairseq.experiments.corpus.manifest import read_manifest
from admin_fairseq.experiments.corpus.numbers_and_dates import make_pairs
from admin_fairseq.experiments.recipe import (
    RECIPES,
    TO_PREPARE,
    TO_TRAIN,
    read_recipe,
    recipe_names,
)
from tests.experiments.corpora import (
    bash,
    environment,
    files,
    iwslt14,
    preparation,
    recipe,
    text_of,
)
from tests.experiments.restated import applied, check_bpe, check_data_bin, learned, read

SUBWORD_NMT = str(Path(sys.executable).parent / "subword-nmt")


def prepare(tmp_path, name, merges=60, dest="out", flags=()):
    """Run prepare_NAME.sh on the archives in tmp_path/in."""
    changed = {"valid": "every 7"} if name == "wmt14_en-fr" else {}
    words = preparation(tmp_path, name, dest, **changed)
    return bash(f"prepare_{name}.sh", *words, "--merges", merges, "--jobs", 1, *flags)


def moses(lang, lines, normalise=False, lowercase=False, apostrophes=False, dashes=False):
    """sacremoses, called here on its own."""
    tokeniser, normaliser = MosesTokenizer(lang), MosesPunctNormalizer(lang)
    result = []
    for line in lines:
        line = line.replace("\u2019", "'") if apostrophes else line
        line = normaliser.normalize(line) if normalise else line
        tokens = tokeniser.tokenize(line, aggressive_dash_splits=dashes, escape=False)
        result.append(" ".join(tokens).lower() if lowercase else " ".join(tokens))
    return result


def kept(sources, targets, longest):
    """The pairs that clean-corpus-n keeps at ratio 1.5."""
    pairs = []
    for source, target in zip(sources, targets):
        m, n = len(source.split(" ")), len(target.split(" "))
        if source and target and max(m, n) <= longest and max(m, n) / min(m, n) <= 1.5:
            pairs.append((source, target))
    assert 0 < len(pairs) < len(sources)
    return pairs


@pytest.mark.subprocess
def test_a_recipe_with_sacremoses(tmp_path):
    """What recipes of one's own have by default."""
    raw = iwslt14(tmp_path / "in")
    own = recipe(tmp_path / "iwslt14_de-en.ini", "iwslt14_de-en")
    text = own.read_text(encoding="utf-8")
    own.write_text(text.replace("tokeniser = moses\nescape = yes\n", ""), encoding="utf-8")
    result = prepare(tmp_path, "iwslt14_de-en")
    assert result.returncode == 0, result.stdout
    out = tmp_path / "out"
    for name, lines in raw.items():
        assert read(out / "raw" / name) == lines, name
    tokens = {lang: moses(lang, raw[f"train.{lang}"], lowercase=True) for lang in ("de", "en")}
    pairs = kept(tokens["de"], tokens["en"], 175)
    valid = [pair for number, pair in enumerate(pairs, 1) if number % 23 == 0]
    train = [pair for number, pair in enumerate(pairs, 1) if number % 23 != 0]
    assert valid
    texts = {
        subset: {lang: [pair[side] for pair in chosen] for side, lang in enumerate(("de", "en"))}
        for subset, chosen in (("train", train), ("valid", valid))
    }
    texts["test"] = {
        lang: moses(lang, raw[f"test.{lang}"], lowercase=True, apostrophes=True)
        for lang in ("de", "en")
    }
    check_bpe(out, "de", "en", texts, 60)
    check_data_bin(
        out,
        "de",
        "en",
        {
            name: {lang: read(out / "bpe" / f"{name}.{lang}") for lang in ("de", "en")}
            for name in texts
        },
    )


@pytest.mark.slow
@pytest.mark.subprocess
def test_a_generated_corpus_is_left_as_it_is(tmp_path):
    """The quick start's, smaller: as the commands of subword-nmt and fairseq make it."""
    text = (RECIPES / "quickstart.ini").read_text(encoding="utf-8")
    for subset, many, few in (("train", 22000, 300), ("valid", 500, 20), ("test", 500, 20)):
        assert f"{subset} = {many} pairs" in text
        text = text.replace(f"{subset} = {many} pairs", f"{subset} = {few} pairs")
    (tmp_path / "small.ini").write_text(text, encoding="utf-8")
    flags = ["--recipe", tmp_path / "small.ini", "--jobs", 1]
    result = bash("prepare_quickstart.sh", tmp_path / "out", *flags)
    assert result.returncode == 0, result.stdout
    out, own = tmp_path / "out", tmp_path / "own"
    own.mkdir()
    texts = {}
    for subset, pairs in make_pairs(1, {"test": 20, "valid": 20, "train": 300}):
        for column, lang in enumerate(("en", "de")):
            lines = texts[f"{subset}.{lang}"] = [pair[column] for pair in pairs]
            assert read(out / "raw" / f"{subset}.{lang}") == lines
    codes = learned([texts["train.en"], texts["train.de"]], 400)
    (own / "codes").write_text(codes, encoding="utf-8")
    assert (out / "bpe" / "codes.400").read_text(encoding="utf-8") == codes
    for name, lines in texts.items():
        (own / name).write_text(text_of(applied(own / "codes", lines)), encoding="utf-8")
    words = ["fairseq-preprocess", "--source-lang", "en", "--target-lang", "de"]
    words += ["--joined-dictionary", "--workers", "1", "--destdir", "data-bin"]
    words += ["--trainpref", "train", "--validpref", "valid", "--testpref", "test"]
    subprocess.run(words, cwd=own, env=environment(), check=True, stdout=subprocess.DEVNULL)
    assert files(own / "data-bin") == files(out / "data-bin")


@pytest.mark.slow
def test_only_what_depends_on_a_changed_setting_is_made_again(tmp_path):
    iwslt14(tmp_path / "in")
    assert prepare(tmp_path, "iwslt14_de-en").returncode == 0
    out = tmp_path / "out"
    first = files(out)

    def made(**flags):
        before = {path: path.stat().st_mtime_ns for path in out.rglob("*") if path.is_file()}
        result = prepare(tmp_path, "iwslt14_de-en", **flags)
        assert result.returncode == 0, result.stdout
        after = {path: path.stat().st_mtime_ns for path in out.rglob("*") if path.is_file()}
        changed = {
            path.relative_to(out).parts[0] for path in after if before.get(path) != after[path]
        }
        return changed - {"stages", "preprocess.log", "lock"}

    assert made() == set()
    assert made(merges=20) == {"bpe", "data-bin"}
    assert made() == {"bpe", "data-bin"}
    (out / "tok" / "test.de").unlink()
    assert made() == {"tok"}, "made again as it was, so nothing that depends on it"
    (out / "split" / "train.en").write_text("changed by hand\n")
    assert made() == {"split"}
    (out / "data-bin" / "dict.de.txt").write_text("")
    assert made() == {"data-bin"}
    assert {path: data for path, data in files(out).items() if "codes.20" not in path} == first
    recipe(tmp_path / "iwslt14_de-en.ini", "iwslt14_de-en", ratio="1.2")
    assert made() == {"split", "bpe", "data-bin"}


def test_published_counts(tmp_path):
    """A small difference is told, a large one stops, and test sets must be exact."""
    iwslt14(tmp_path / "in", pairs=600)
    own = recipe(tmp_path / "iwslt14_de-en.ini", "iwslt14_de-en")
    assert prepare(tmp_path, "iwslt14_de-en").returncode == 0
    count = len(read(tmp_path / "out" / "split" / "train.de"))

    def outcome(lines):
        recipe(own, "iwslt14_de-en", published_lines="\n" + lines)
        return prepare(tmp_path, "iwslt14_de-en")

    exact = outcome(f"train {count}")
    assert exact.returncode == 0 and "are published" not in exact.stdout
    near = outcome(f"train {count + 1}")
    assert (
        near.returncode == 0
        and f"train has {count:,} lines, -1 from the {count + 1:,}" in near.stdout
    )
    far = outcome(f"train {count + 10}")
    assert far.returncode == 1 and "-10 from" in far.stdout and "error" in far.stdout
    test = outcome("test 31")
    assert test.returncode == 1 and "test has 30 lines, -1 from the 31" in test.stdout


def test_shipped_recipes_are_read_and_name_known_archives():
    on_data_of = {name: read_recipe(name).data.data_of for name in recipe_names()}
    on_data_of = {name: other for name, other in on_data_of.items() if other}
    assert {"figures", "init_types-quickstart", "wmt14_en-fr-deepnmt"} <= set(on_data_of)
    papers = {"iwslt14_de-en", "wmt14_en-de", "wmt14_en-de-fairseq", "wmt14_en-fr"}
    names = set(recipe_names()) - set(on_data_of)
    recipes = {name: read_recipe(name, TO_PREPARE).data for name in names}
    for name, other in on_data_of.items():
        trained = read_recipe(name, TO_TRAIN)
        assert (trained.source, trained.target) == (recipes[other].source, recipes[other].target)
        with pytest.raises(AdminError) as refused:
            read_recipe(name, TO_PREPARE)
        way_out = f"this recipe trains on the data of {other}: admin-fairseq prepare {other}"
        assert str(refused.value) == way_out
    assert papers | {"multi30k_en-de"} <= set(recipes)
    for name, found in recipes.items():
        assert (found.exact, found.escape) == ((name in papers),) * 2, name
    archives = read_manifest()
    for name, found in recipes.items():
        for source in (source for sources in found.subsets.values() for source in sources):
            assert source.archive in archives or found.url, name
        assert bool(found.generator) == bool(found.pairs) != bool(found.subsets), name
    assert recipes["wmt14_en-de"].merges == 32764 and recipes["wmt14_en-fr"].merges == 40000
    assert archives["de-en.tgz"].bytes == 19982877 and archives["de-en.tgz"].sha256 is None
    assert all(len(archive.sha256) == 64 for archive in archives.values() if archive.sha256)


def test_fairseqs_preparation_differs_in_its_data_alone():
    ours, fairseqs = read_recipe("wmt14_en-de", TO_TRAIN), read_recipe("wmt14_en-de-fairseq")
    sections = ("model", "training", "evaluation")
    both = []
    for one in (ours, fairseqs):
        both.append({key: value for key, value in one.values.items() if key[0] in sections})
    assert both[0] == both[1]
    assert ours.data != fairseqs.data
    assert not fairseqs.published, "the papers' numbers were got on the authors' data"
