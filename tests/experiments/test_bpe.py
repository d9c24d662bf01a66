"""BPE, learned and applied as by subword-nmt, which is slower."""

import io
import random
from unittest import mock

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from subword_nmt.apply_bpe import BPE
from subword_nmt.learn_bpe import learn_bpe

from admin_fairseq.experiments.corpus import text
from admin_fairseq.experiments.corpus.merges import learn_merges


def theirs(counts, merges):
    vocabulary = "".join(f"{word} {count}\n" for word, count in counts.items())
    codes = io.StringIO()
    learn_bpe(io.StringIO(vocabulary, newline="\n"), codes, merges, is_dict=True)
    return [tuple(line.split(" ")) for line in codes.getvalue().split("\n")[1:-1]]


# few letters: pairs repeat and overlap; counts that are equal, rare and far apart; blanks and what
# patterns have a meaning for
LETTERS = st.text(st.sampled_from("aaab\xa0\u2028.\\é"), min_size=1, max_size=9)
COUNTS = st.one_of(st.integers(1, 4), st.integers(1, 3000))


@settings(deadline=None, max_examples=300)
@given(st.dictionaries(LETTERS, COUNTS, min_size=1, max_size=25), st.integers(1, 60))
def test_merges_of_any_words(counts, merges):
    if all(len(word) == 1 for word in counts):
        with pytest.raises(ValueError):
            learn_merges(counts, merges)
    else:
        assert learn_merges(counts, merges) == theirs(counts, merges)


@pytest.mark.parametrize("seed", [1, 2])
def test_merges_of_a_vocabulary(seed, caplog):
    """So many that rare pairs are set aside, come back, and are wrongly counted as by the other."""
    caplog.set_level("INFO")
    rng = random.Random(seed)
    parts = ["".join(rng.choices("abcdefgh", k=rng.randint(1, 4))) for _ in range(60)]
    counts = {}
    for rank in range(1, 1500):
        word = "".join(rng.choices(parts, k=rng.randint(1, 5)))
        counts[word] = 1 + int(2e5 / rank**1.2)
    assert learn_merges(counts, 1500) == theirs(counts, 1500)
    assert "1,500 merges, " in caplog.text


@pytest.fixture(scope="module")
def codes(tmp_path_factory):
    path = tmp_path_factory.mktemp("bpe") / "codes"
    path.write_text("#version: 0.2\na b\nab c</w>\nb c</w>\na a\n", encoding="utf-8")
    return path


@settings(deadline=None)
@given(lines=st.lists(st.text(st.sampled_from("abc \r\t\xa0é")), max_size=20))
def test_lines_are_split_as_by_subword_nmt(codes, lines):
    bpe = BPE(io.StringIO(codes.read_text(encoding="utf-8")))
    with mock.patch.object(text, "_REMEMBERED_WORDS", 3):
        made = text.segment_lines(str(codes), "digest", lines)
    assert made == [bpe.process_line(line) for line in lines]
