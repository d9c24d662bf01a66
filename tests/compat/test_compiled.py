"""Python in the place of fairseq's compiled parts: equal to them, and only where they lack."""

import ctypes
import re
import sys
import time

import numpy as np
import pytest
import torch
from fairseq.scoring import bleu

from admin_fairseq.compat import compiled, python_batches, python_bleu
from tests.helpers import REPOSITORY, TRAIN_FLAGS, USER_DIR, run

BATCHINGS = 20_000
PAIRS = 3_000
PAD, EOS, UNK = 1, 2, 3


@pytest.fixture
def data_utils_fast():
    module = pytest.importorskip("fairseq.data.data_utils_fast")
    if not hasattr(module, "__file__"):
        pytest.skip("this fairseq has no compiled batching to compare with")
    return module


@pytest.fixture
def libbleu():
    return ctypes.cdll.LoadLibrary(pytest.importorskip("fairseq.libbleu").__file__)


def random_batching(rng):
    """Return (indices, lengths, limits): sorted, nearly sorted and unsorted; few limits or many."""
    count = int(rng.integers(0, 90))
    lengths = rng.integers(0, rng.integers(2, 40), count)
    order = rng.integers(3)
    if order == 1:
        lengths = np.sort(lengths)
    elif order == 2:
        lengths = np.sort(lengths)[::-1].copy()
    max_tokens = int(rng.choice([-1, 0, 39, 40, 64, 100, 300, 1000]))
    max_sentences = int(rng.choice([-1, 0, 1, 2, 3, 8, 10, 17]))
    multiple = int(rng.choice([1, 2, 3, 4, 8, 16]))
    return rng.permutation(count), lengths, (max_tokens, max_sentences, multiple)


def as_lists(batches):
    return [np.asarray(batch).tolist() for batch in batches]


def test_batches_are_the_compiled_ones(data_utils_fast):
    rng = np.random.default_rng(1)
    several = 0
    for _ in range(BATCHINGS):
        indices, lengths, limits = random_batching(rng)
        expected = as_lists(data_utils_fast.batch_by_size_vec(indices, lengths, *limits))
        got = python_batches.batch_by_size_vec(indices, lengths, *limits)
        assert as_lists(got) == expected, (lengths.tolist(), limits)
        by_index = dict(zip(indices.tolist(), lengths.tolist()))
        got = python_batches.batch_by_size_fn(indices, by_index.__getitem__, *limits)
        assert as_lists(got) == expected, (lengths.tolist(), limits)
        several += len(expected) > 2
    assert several > BATCHINGS // 2


def test_fixed_shapes_are_the_compiled_ones(data_utils_fast):
    rng = np.random.default_rng(2)
    for _ in range(BATCHINGS):
        indices, lengths, _ = random_batching(rng)
        shapes = np.sort(rng.integers(1, 20, (rng.integers(1, 5), 2)), axis=0)
        by_index = dict(zip(indices.tolist(), lengths.tolist()))
        arguments = (indices, by_index.__getitem__, shapes)
        expected = data_utils_fast.batch_fixed_shapes_fast(*arguments)
        got = python_batches.batch_fixed_shapes_fast(*arguments)
        assert got == expected, (lengths.tolist(), shapes.tolist())


def test_a_sentence_that_is_too_long_is_refused(data_utils_fast):
    arguments = (np.arange(3), np.array([4, 9, 4]), 8, -1, 1)
    for module in (data_utils_fast, python_batches):
        with pytest.raises(AssertionError, match="max_tokens=8"):
            module.batch_by_size_vec(*arguments)


def random_pair(rng):
    """Two sentences that share words; padded, ended, or neither; with unknown words."""
    words = rng.integers(3, rng.integers(5, 30), rng.integers(1, 40))
    other = words.copy()
    changed = rng.random(len(words)) < rng.random()
    other[changed] = rng.integers(3, 30, changed.sum())
    other = other[: rng.integers(1, len(other) + 1)]
    sentences = []
    for sentence in (words, other):
        left, right = rng.integers(0, 3, 2)
        ends = [EOS] * int(rng.integers(0, 2)) + [PAD] * int(right)
        parts = ([PAD] * int(left), sentence, ends)
        sentences.append(torch.from_numpy(np.concatenate(parts)).int())
    return sentences


def scorer(c, one_init=False):
    made = bleu.Scorer.__new__(bleu.Scorer)
    made.stat, made.pad, made.eos, made.unk, made.C = bleu.BleuStat(), PAD, EOS, UNK, c
    made.reset(one_init)
    return made


def counts(made):
    return {name: getattr(made.stat, name) for name, _ in made.stat._fields_}


def test_bleu_counts_are_the_compiled_ones(libbleu):
    rng = np.random.default_rng(3)
    for number in range(PAIRS):
        reference, prediction = random_pair(rng)
        one_init = bool(number % 2)
        both = [scorer(c, one_init) for c in (libbleu, python_bleu.PythonLibbleu())]
        for made in both:
            made.add(reference, prediction)
            made.add(reference, reference)
        assert counts(both[0]) == counts(both[1]), (reference.tolist(), prediction.tolist())
        assert both[0].result_string() == both[1].result_string()
    assert counts(both[0])["match4"] > 0


def test_bleu_of_sentences_without_words_is_defined():
    """fairseq's own reads beside the array there."""
    made = scorer(python_bleu.PythonLibbleu())
    for sentence in ([], [PAD, PAD]):
        made.add(torch.tensor([5, 6, EOS]).int(), torch.tensor(sentence).int())
    assert counts(made)["predlen"] == 0 and counts(made)["reflen"] == 4


def fastest(function, *arguments):
    """CPU-seconds, the least of five: the machine does other things meanwhile."""
    taken = []
    for _ in range(5):
        start = time.process_time()
        function(*arguments)
        taken.append(time.process_time() - start)
    return min(taken)


@pytest.mark.slow
@pytest.mark.parametrize("max_tokens, multiple", [(4096, 8), (256, 8), (100, 1)])
def test_batching_takes_at_most_ten_times_as_long(data_utils_fast, max_tokens, multiple):
    """Measured: 4.2, 2.7 and 2.3 times; 0.034 CPU-seconds for a million sentences at 4,096."""
    lengths = np.sort(np.random.default_rng(4).integers(5, 80, 1_000_000))
    arguments = (np.arange(len(lengths)), lengths, max_tokens, -1, multiple)
    compiled_time = fastest(data_utils_fast.batch_by_size_vec, *arguments)
    assert fastest(python_batches.batch_by_size_vec, *arguments) <= 10 * compiled_time


def test_counting_takes_at_most_ten_times_as_long(libbleu):
    rng = np.random.default_rng(5)
    pairs = [random_pair(rng) for _ in range(PAIRS)]

    def add_all(c):
        made = scorer(c)
        for pair in pairs:
            made.add(*pair)

    assert fastest(add_all, python_bleu.PythonLibbleu()) <= 10 * fastest(add_all, libbleu)


def test_compiled_parts_stay_where_they_are(data_utils_fast, libbleu, monkeypatch):
    monkeypatch.setattr(compiled, "_replace_batches", pytest.fail)
    monkeypatch.setattr(compiled, "_replace_bleu", pytest.fail)
    compiled.replace_compiled_parts()
    assert sys.modules["fairseq.data.data_utils_fast"] is data_utils_fast


def test_missing_parts_are_replaced(monkeypatch):
    for name in ("fairseq.data.data_utils_fast", "fairseq.libbleu"):
        monkeypatch.setitem(sys.modules, name, None)  # what Python takes for "not to be found"
    monkeypatch.setattr(bleu.Scorer, "__init__", vars(bleu.Scorer)["__init__"])
    compiled.replace_compiled_parts()
    from fairseq.data.data_utils_fast import batch_by_size_vec

    assert batch_by_size_vec is python_batches.batch_by_size_vec
    config = bleu.BleuConfig(pad=PAD, eos=EOS, unk=UNK)
    made = bleu.Scorer(config)
    assert isinstance(made.C, python_bleu.PythonLibbleu)
    words = torch.tensor([5, UNK, 7, 8, 9, EOS]).int()
    made.add(words, words)
    assert counts(made)["match1"] == 4 and counts(made)["count1"] == 5


BLOCKER = """
import atexit
import sys

for part in ("data.data_utils_fast", "data.token_block_utils_fast", "libbleu", "libbase", "libnat"):
    sys.modules["fairseq." + part] = None


@atexit.register
def say():
    print("batches by", getattr(sys.modules["fairseq.data.data_utils_fast"], "__doc__", None))
"""


@pytest.mark.subprocess
@pytest.mark.slow
def test_a_translation_without_compiled_parts_is_the_same(data_bin, tmp_path):
    """Training, and translating with --scoring bleu."""
    (tmp_path / "sitecustomize.py").write_text(BLOCKER)
    without = {"PYTHONPATH": f"{tmp_path}:{REPOSITORY}"}
    outputs = []
    for name, env in (("with", None), ("without", without)):
        folder = tmp_path / name
        flags = ["--user-dir", USER_DIR, "--cpu"]
        train = [*TRAIN_FLAGS, "--init-type", "adaptive-auto", "--max-update", 3]
        run("fairseq-train", data_bin, *flags, *train, "--save-dir", folder, env=env)
        path = folder / "checkpoint_last.pt"
        translate = ["--path", path, "--beam", 2, "--max-len-b", 8, "--scoring", "bleu"]
        output = run("fairseq-generate", data_bin, *flags, *translate, env=env).stdout
        assert ("batches by Batches as" in output) == (env is not None)
        outputs.append(re.findall(r"^[HP]-.*|BLEU4 = .*", output, re.M))
    assert len(outputs[0]) == 2 * 27 + 1
    assert outputs[0] == outputs[1]
