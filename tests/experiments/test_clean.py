"""The filter, against clean-corpus-n.perl restated and, where a machine has it, run."""

import random

import pytest

from admin_fairseq.cli import main
from admin_fairseq.errors import AdminError
from admin_fairseq.experiments.corpus.clean import Cleaner
from tests.experiments.corpora import HARD
from tests.experiments.perl import needed
from tests.experiments.restated import Perl, Restated


def pairs(seed, first):
    rng = random.Random(seed)
    words = ["a", "bc", "|", "a|b", "x" * 1000, "y" * 1001, "", "  ", "&#124;", "é"]
    weights = [20, 20, 2, 2, 1, 1, 2, 2, 2, 5]
    found = [first]
    for _ in range(800):
        sides = [" ".join(rng.choices(words, weights, k=rng.randint(0, 12))) for _ in range(2)]
        found.append(tuple(sides))
    return found


def kept(found, length, ratio):
    cleaner = Cleaner(length, ratio, rewrite=True)
    written = [cleaner.clean(*pair) for pair in found]
    return [list(side) for side in zip(*(pair for pair in written if pair))]


@pytest.mark.parametrize("way", [Restated(), pytest.param(Perl(), marks=needed)])
@pytest.mark.parametrize("length, ratio", [((1, 80), 9), ((2, 5), 1.5), ((1, 7), 1.1)])
def test_as_clean_corpus_n(tmp_path, way, length, ratio):
    found = pairs(1, ("a b", "c d")) + HARD
    expected = way.clean(tmp_path, list(zip(*found)), *length, ratio)
    assert kept(found, length, ratio) == [list(side) for side in expected]


@pytest.mark.parametrize("way", [Restated(), pytest.param(Perl(), marks=needed)])
def test_factors(tmp_path, way):
    """A | in the first pair, and all stay; a word is as long as its longest factor."""
    found = [("a|A b|B", "c|C"), ("x" * 1000 + "|" + "y" * 1000, "z"), ("x" * 1001, "z")]
    found += [("d|D", "e"), ("f", "g|")]
    expected = way.clean(tmp_path, list(zip(*found)), 1, 80, 9)
    assert kept(found, (1, 80), 9) == [list(side) for side in expected]
    with pytest.raises(AdminError, match="one of them is empty: 'h .i'.*escape = yes"):
        kept([*found, ("h |i", "j")], (1, 80), 9)


def test_other_recipes_keep_their_text():
    cleaner = Cleaner((1, 3), 2, rewrite=False)
    assert cleaner.clean("a  | b", " c d") == ("a  | b", " c d")
    assert cleaner.clean("a", "b c d") is None and cleaner.clean("a b c d", "a b c d") is None
    assert cleaner.clean("", "") is None


def test_keys_that_contradict_each_other(tmp_path, capsys):
    text = "[data]\nsource = en\ntarget = de\nlowercase = no\nmerges = 9\n"
    texts = "train = t.{lang}\nvalid = v.{lang}\ntest = x.{lang}\n"
    for keys, message in (
        ("escape = yes\n" + texts, "escape: goes with tokeniser = moses only"),
        ("tokenise = no\ntokeniser = moses\n" + texts, "tokeniser: goes with tokenise = yes only"),
        ("tokeniser = perl\n" + texts, "tokeniser = perl: must be moses or sacremoses"),
        ("escape = maybe\n" + texts, "escape = maybe: must be yes or no"),
        ("data_of = quickstart\n", "the data of quickstart: admin-fairseq prepare quickstart"),
    ):
        (tmp_path / "own.ini").write_text(text + keys)
        words = ["prepare", str(tmp_path / "own.ini"), "--dest", str(tmp_path / "out")]
        assert main(words) == 1
        assert message in capsys.readouterr().err
        assert not (tmp_path / "out").exists()
    (tmp_path / "own.ini").write_text(text + "data_of = quickstart\n" + texts)
    assert main(["train", str(tmp_path / "own.ini"), "--init-type", "admin", "--dry-run"]) == 1
    assert "data_of: quickstart has the texts, so name none here" in capsys.readouterr().err
