"""data-bin without fairseq-preprocess, byte for byte as it makes it."""

import collections
import random
import tempfile
from pathlib import Path
from unittest import mock

import pytest
from fairseq.binarizer import FileBinarizer, VocabularyDatasetBinarizer
from fairseq.data import Dictionary
from fairseq.data.indexed_dataset import best_fitting_int_dtype
from fairseq.tokenizer import tokenize_line
from hypothesis import given, settings
from hypothesis import strategies as st

from admin_fairseq.experiments.corpus import fairseq_data, slices
from tests.experiments.corpora import files

LANGS = ("en", "de")
# what ends a line or parts words to some, and not to others; words that a dictionary has already
BLANKS = (
    " ",
    "  ",
    "\t",
    "\r",
    "\r\n",
    "\n",
    "\x0b",
    "\x0c",
    "\x1c",
    "\x1d",
    "\x1f",
    "\x85",
    "\xa0",
)
BLANKS += ("\u2028", "\u2029", "\u200b", "\u3000", "\ufeff", "\x00")
WORDS = (
    "a",
    "b",
    "ä",
    "中",
    "😀",
    "e\u0301",
    "a@@",
    "<s>",
    "<pad>",
    "</s>",
    "<unk>",
    "madeupword0001",
)
TEXTS = st.lists(st.sampled_from(BLANKS + WORDS), max_size=40).map("".join)


def of_fairseq(folder, paths, train, workers=1):
    """dict.txt, and for each text the bytes of .bin and .idx and the summary in fairseq's log."""
    dictionary = Dictionary()
    for path in train:
        Dictionary.add_file_to_dictionary(str(path), dictionary, tokenize_line, workers)
    dictionary.finalize(padding_factor=8)
    dictionary.save(str(folder / "dict.txt"))
    made = [(folder / "dict.txt").read_bytes()]
    for path in paths:
        binarizer = VocabularyDatasetBinarizer(dictionary, append_eos=True)
        prefix, types = str(folder / path.name), len(dictionary)
        summary = FileBinarizer.multiprocess_dataset(
            str(path), "mmap", binarizer, prefix, vocab_size=types, num_workers=workers
        )
        made += [Path(f"{prefix}.{end}").read_bytes() for end in ("bin", "idx")]
        made += [f"[en] {path}: {summary} (by <unk>)"]
    return made


def of_ours(folder, texts, jobs=1):
    """The same, of a source text for each subset."""
    sides = {subset: dict.fromkeys(LANGS, path) for subset, path in texts.items()}
    fairseq_data.preprocess(folder, LANGS, sides, jobs)
    log = (folder / "preprocess.log").read_text(encoding="utf-8").split("\n")
    made = [(folder / "dict.en.txt").read_bytes()]
    for number, subset in enumerate(texts):
        made += [(folder / f"{subset}.en-de.en.{end}").read_bytes() for end in ("bin", "idx")]
        made += [log[2 + 2 * number]]
    return made


@settings(deadline=None, max_examples=150)
@given(TEXTS, TEXTS, st.integers(1, 30))
def test_any_text_is_binarised_as_by_fairseq(train, other, size):
    """Whatever its blanks and line ends, and wherever a slice ends."""
    with tempfile.TemporaryDirectory() as name, mock.patch.object(fairseq_data, "_SIZE", size):
        folder = Path(name)
        texts = {"train": folder / "t.txt", "valid": folder / "v.txt"}
        for path, content in zip(texts.values(), (train, other)):
            path.write_bytes(content.encode("utf-8"))
        # the joined dictionary is of both sides, which are the same text here
        expected = of_fairseq(folder, texts.values(), [texts["train"]] * 2)
        assert of_ours(folder / "data-bin", texts) == expected


@pytest.mark.parametrize("types", [7, 65_499, 65_500, 70_000])
def test_larger_dictionaries_take_wider_numbers(types):
    assert fairseq_data.number_type(types) == best_fitting_int_dtype(types)


def test_a_large_dictionary(tmp_path):
    path = tmp_path / "t.txt"
    words = [f"w{number}" for number in range(66_000)]
    path.write_text("\n".join([" ".join(words[:40_000]), " ".join(words[30_000:])]) + "\n")
    assert of_ours(tmp_path / "new", {"train": path}) == of_fairseq(tmp_path, [path], [path] * 2)


@pytest.mark.subprocess
@pytest.mark.parametrize("workers", [1, 2])
def test_all_files_are_those_of_the_command(warm, tmp_path, workers):
    rng = random.Random(workers)
    texts = collections.defaultdict(dict)
    for subset, count in (("train", 400), ("valid", 30), ("test", 30), ("test1", 3)):
        for lang in LANGS:
            lines = []
            for _ in range(count):
                kinds = WORDS + (lang, "\u2028", f"{rng.randrange(99)}")
                lines.append(" ".join(rng.choices(kinds, k=rng.randrange(12))))
            texts[subset][lang] = tmp_path / f"{subset}.{lang}"
            texts[subset][lang].write_text("\n".join(lines) + "\n", encoding="utf-8")
    words = ["fairseq-preprocess", "--source-lang", "en", "--target-lang", "de"]
    words += ["--joined-dictionary", "--workers", workers, "--destdir", tmp_path / "theirs"]
    words += ["--trainpref", tmp_path / "train", "--validpref", tmp_path / "valid"]
    words += ["--testpref", f"{tmp_path / 'test'},{tmp_path / 'test1'}"]
    warm.run(*words, cwd=tmp_path)
    with mock.patch.object(fairseq_data, "_SIZE", 1000):
        fairseq_data.preprocess(tmp_path / "ours", LANGS, texts, workers)
    assert files(tmp_path / "ours") == files(tmp_path / "theirs")
    logs = []
    for name in ("ours", "theirs"):
        log = (tmp_path / name / "preprocess.log").read_text().replace(name, "data-bin")
        logs.append(log.split("\n")[1:])  # the first is fairseq's flags, and says here what it is
    assert logs[0] == logs[1]


@settings(deadline=None)
@given(st.lists(st.text(st.sampled_from("ab \r\xa0\u2028")), max_size=9), st.integers(1, 12))
def test_slices_are_whole_lines(lines, size):
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "text"
        path.write_text("".join(line + "\n" for line in lines), encoding="utf-8", newline="\n")
        parts = [part.lines() for part in slices.slices(path, size)]
    assert sum(parts, []) == lines and all(parts)
