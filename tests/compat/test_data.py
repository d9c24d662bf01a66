"""A subset in several parts, at fairseq's default --upsample-primary."""

import re
import shutil

import pytest
from fairseq.data import ConcatDataset, FairseqDataset

from tests.helpers import train


class Numbers(FairseqDataset):
    def __init__(self, numbers):
        self.numbers = numbers

    def __getitem__(self, index):
        return self.numbers[index]

    def __len__(self):
        return len(self.numbers)


@pytest.mark.parametrize(
    "ratios, expected", [([-1, 1], [1, 2, 3, 4, 5]), ([2, 1], [1, 2, 1, 2, 3, 4, 5])]
)
def test_parts_are_joined(ratios, expected):
    joined = ConcatDataset([Numbers([1, 2]), Numbers([3, 4, 5])], ratios)
    assert [joined[index] for index in range(len(joined))] == expected


@pytest.fixture(scope="module")
def parts(data_bin, tmp_path_factory):
    """A data-bin with train and train1, valid and valid1."""
    folder = tmp_path_factory.mktemp("parts") / "data-bin"
    shutil.copytree(data_bin, folder)
    for path in list(folder.iterdir()):
        for name in ("train", "valid"):
            if path.name.startswith(f"{name}.en-de"):
                shutil.copy(path, folder / path.name.replace(name, name + "1", 1))
    return folder


def test_training_on_parts(parts, tmp_path):
    """120 sentences and as many again; valid and valid1 as one; epochs tell what is trained on."""
    flags = [
        "--combine-valid-subsets",
        "--max-epoch",
        "1",
        "--no-save",
        "--max-tokens",
        "4096",
        "--batch-size",
        "8",
    ]
    log = train(parts, tmp_path, *flags).stdout
    updates = re.search(r"train \| epoch 001 .* num_updates (\d+)", log).group(1)
    assert int(updates) == 2 * 120 // 8
    assert len(re.findall(r"valid on 'valid' subset", log)) == 1
    assert "valid1 en-de 20 examples" in log


def test_upsampling_is_as_asked_for(parts, tmp_path):
    flags = """
        --upsample-primary 2 --disable-validation --max-epoch 1 --no-save --max-tokens 4096
        --batch-size 8
    """.split()
    log = train(parts, tmp_path, *flags).stdout
    assert int(re.search(r"train \| epoch 001 .* num_updates (\d+)", log).group(1)) == 3 * 120 // 8
