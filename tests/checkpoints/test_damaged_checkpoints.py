"""1,000 damaged checkpoints: each is refused with one message, or has the weights as written."""

import random

import pytest
import torch

from admin_fairseq import cli
from admin_fairseq.checkpoints import load_checkpoint
from admin_fairseq.errors import AdminError
from tests.helpers import train

SEED = 20261126
FILES = 1000


@pytest.fixture(scope="module")
def trained(data_bin, tmp_path_factory):
    folder = tmp_path_factory.mktemp("trained")
    train(
        data_bin,
        folder,
        "--init-type",
        "adaptive-auto",
        "--max-update",
        "1",
        "--no-epoch-checkpoints",
    )
    return folder / "checkpoint_last.pt"


def damaged(data, chance):
    """Return data with one of the damages that disks, networks and editors do; most are small."""
    data = bytearray(data)
    at = chance.randrange(len(data))
    kind = chance.choice(
        [
            "bit",
            "bit",
            "bit",
            "byte",
            "burst",
            "zeros",
            "cut",
            "loss",
            "insert",
            "double",
            "swap",
            "end",
        ]
    )
    if kind == "end":  # where the archive's table of contents is
        at = len(data) - 1 - chance.randrange(min(len(data), 9000))
        kind = chance.choice(["bit", "byte"])
    length = chance.choice([1, 16, 512, 4096])
    if kind == "bit":
        data[at] ^= 1 << chance.randrange(8)
    elif kind == "byte":
        data[at] = chance.randrange(256)
    elif kind == "burst":
        data[at : at + length] = chance.randbytes(len(data[at : at + length]))
    elif kind == "zeros":
        data[at : at + length] = bytes(len(data[at : at + length]))
    elif kind == "cut":
        del data[at:]
    elif kind == "loss":
        del data[at : at + length]
    elif kind == "insert":
        data[at:at] = chance.randbytes(length)
    elif kind == "double":
        data[at:at] = data[at : at + length]
    elif kind == "swap":
        other = chance.randrange(len(data))
        first, second = bytes(data[at : at + length]), bytes(data[other : other + length])
        data[at : at + len(first)], data[other : other + len(second)] = (
            second[: len(first)],
            first[: len(second)],
        )
    return bytes(data)


def same(ours, theirs):
    return ours.keys() == theirs.keys() and all(
        torch.equal(weight, theirs[name]) for name, weight in ours.items()
    )


@pytest.mark.subprocess
def test_no_damage_changes_weights(trained, tmp_path):
    chance = random.Random(SEED)
    data, weights = trained.read_bytes(), load_checkpoint(trained)["model"]
    path = tmp_path / "damaged.pt"
    accepted = others = 0
    for _ in range(FILES):
        path.write_bytes(damaged(data, chance))
        try:
            state = load_checkpoint(path)
        except AdminError as error:
            assert str(path) in str(error) and str(error).isprintable() or "\n" in str(error)
            continue
        accepted += 1
        others += not same(weights, state["model"])
    assert others == 0
    assert accepted < FILES / 5, "most damage is seen; what is left lies in padding, or did nothing"


@pytest.mark.subprocess
@pytest.mark.parametrize("number", range(12))
def test_the_commands_end_with_one_message(trained, tmp_path, capsys, number):
    chance = random.Random(SEED + 1 + number)
    path, out = tmp_path / "damaged.pt", tmp_path / "out.pt"
    path.write_bytes(damaged(trained.read_bytes(), chance))
    for words in (
        ["fold", path, out],
        ["import", path, out],
        ["average", "--inputs", path, "--output", out],
    ):
        code = cli.main([str(word) for word in words])
        error = capsys.readouterr().err
        assert code == (0 if out.exists() else 1)
        assert "Traceback" not in error and error.count("error:") == code
        out.unlink(missing_ok=True)


def test_one_bit_in_every_byte(tmp_path, caplog):
    """A small archive, so that headers and table of contents are looked at byte by byte."""
    path = tmp_path / "small.pt"
    torch.manual_seed(1)
    weights = {"a": torch.randn(5), "b": torch.randn(3, 4), "c": torch.randn(2).half()}
    torch.save({"model": weights}, path)
    data = path.read_bytes()
    for number in range(len(data)):
        changed = bytearray(data)
        changed[number] ^= 1 << number % 8
        path.write_bytes(changed)
        try:
            state = load_checkpoint(path)
        except AdminError:
            continue
        assert same(weights, state["model"]), f"byte {number}"


def test_a_part_that_claims_to_be_a_folder(tmp_path):
    """One bit of the table of contents: torch then reads whatever memory holds as the weight."""
    path = tmp_path / "small.pt"
    torch.save({"model": {"a": torch.randn(50)}}, path)
    data = bytearray(path.read_bytes())
    name = data.rindex(b"small/data/0")  # its last name is in the table of contents
    assert data[name - 46 : name - 42] == b"PK\x01\x02"
    data[name - 46 + 38] |= 0x10
    path.write_bytes(data)
    with pytest.raises(AdminError, match="of a kind that torch does not write"):
        load_checkpoint(path)
