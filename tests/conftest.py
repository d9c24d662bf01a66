import random

import pytest
import torch

import admin_fairseq  # noqa: F401
from tests.helpers import run
from tests.warm import shared

torch.set_num_threads(1)


# modules with tests of a minute and more: begun last, they would keep one process waiting
LONGEST = ("tests/experiments/test_evaluate.py", "tests/experiments/test_train_script.py")


def pytest_collection_modifyitems(items):
    items.sort(key=lambda item: not item.nodeid.startswith(LONGEST))


def pytest_runtest_setup(item):
    if item.get_closest_marker("cuda") and not torch.cuda.is_available():
        pytest.skip("it needs a GPU: torch.cuda.is_available() is False")


def write_corpus(folder, sizes, seed=5):
    """Pairs of made-up sentences in which each target word stands for one source word."""
    rng = random.Random(seed)
    folder.mkdir(parents=True, exist_ok=True)
    for split, size in sizes.items():
        sources = [
            [f"s{rng.randrange(30)}" for _ in range(rng.randrange(2, 9))] for _ in range(size)
        ]
        (folder / f"{split}.en").write_text("".join(" ".join(words) + "\n" for words in sources))
        (folder / f"{split}.de").write_text(
            "".join(
                " ".join(word.replace("s", "t") for word in reversed(words)) + "\n"
                for words in sources
            )
        )


@pytest.fixture(scope="session")
def data_bin(tmp_path_factory):
    """A small binarised corpus; its test set has 27 sentences, which is no multiple of 8."""
    folder = tmp_path_factory.mktemp("corpus")
    write_corpus(folder, {"train": 120, "valid": 20, "test": 27})
    run(
        *"""
            fairseq-preprocess -s en -t de --joined-dictionary --destdir data-bin --workers 1
        """.split(),
        *["--trainpref", "train", "--validpref", "valid", "--testpref", "test"],
        cwd=folder,
    )
    return folder / "data-bin"


@pytest.fixture(scope="session")
def warm():
    """Commands without the seconds that importing fairseq takes: see ``warm.Warm``."""
    return shared()
