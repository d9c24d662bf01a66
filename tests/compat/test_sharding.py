"""fairseq-generate --num-shards: every sentence once, whatever the number of shards."""

import pytest
from fairseq import options
from fairseq_cli import generate

from admin_fairseq.errors import AdminError
from tests.helpers import USER_DIR, run, train


@pytest.fixture(scope="module")
def checkpoint(data_bin, tmp_path_factory):
    folder = tmp_path_factory.mktemp("sharding")
    train(data_bin, folder, "--max-update", "3", "--disable-validation", "--no-epoch-checkpoints")
    return folder / "checkpoint_last.pt"


def command(data_bin, checkpoint, *more):
    words = [data_bin, "--path", checkpoint, "--user-dir", USER_DIR, "--batch-size", 4, "--beam", 2]
    words += ["--max-len-b", 8, "--num-workers", 0, "--cpu", *more]
    return [str(word) for word in words]


def hypotheses(text):
    """The hypotheses of a log, in order: each line has a sentence's number, a score and words."""
    return [line for line in text.splitlines() if line.startswith("H-")]


def shard_in_process(words, shards, results):
    """What all shards write, one after the other."""
    lines = []
    for shard in range(shards):
        flags = [
            "--num-shards",
            str(shards),
            "--shard-id",
            str(shard),
            "--results-path",
            str(results),
        ]
        args = options.parse_args_and_arch(options.get_generation_parser(), words + flags)
        try:
            generate.main(args)
        except SystemExit as end:
            assert not end.code
        lines += hypotheses((results / f"shard{shard}" / "generate-test.txt").read_text())
    return lines


@pytest.mark.subprocess
@pytest.mark.parametrize("shards", [2, 3, 7, 9])
def test_every_sentence_is_translated_once(data_bin, checkpoint, tmp_path, shards):
    """27 sentences in 7 batches: 2 and 3 do not divide them, 9 is more than there are."""
    words = command(data_bin, checkpoint)
    args = options.parse_args_and_arch(
        options.get_generation_parser(), words + ["--results-path", str(tmp_path)]
    )
    generate.main(args)
    whole = hypotheses((tmp_path / "generate-test.txt").read_text())
    assert len(whole) == 27
    parts = shard_in_process(words, shards, tmp_path)
    assert sorted(parts) == sorted(whole)


@pytest.mark.subprocess
def test_shards_on_the_command_line(data_bin, checkpoint):
    parts = []
    for shard in (0, 1):
        flags = ("--num-shards", 2, "--shard-id", shard)
        parts.append(
            hypotheses(run("fairseq-generate", *command(data_bin, checkpoint, *flags)).stdout)
        )
    numbers = [{line.split("\t")[0] for line in part} for part in parts]
    assert not numbers[0] & numbers[1] and len(numbers[0] | numbers[1]) == 27


@pytest.mark.subprocess
def test_an_empty_shard_ends_well(data_bin, checkpoint):
    flags = ("--num-shards", 20, "--shard-id", 19)
    result = run("fairseq-generate", *command(data_bin, checkpoint, *flags))
    assert (
        "shard 19 of 20 has nothing to do: there are 7 batches" in result.stdout
        and not hypotheses(result.stdout)
    )


@pytest.mark.subprocess
def test_no_such_shard_on_the_command_line(data_bin, checkpoint):
    flags = ("--num-shards", 2, "--shard-id", 2)
    result = run("fairseq-generate", *command(data_bin, checkpoint, *flags), check=False)
    assert result.returncode == 1 and "Traceback" not in result.stdout
    assert "--shard-id 2: with --num-shards 2 it is from 0 to 1" in result.stdout


@pytest.mark.parametrize(
    "flags, message",
    [
        ("--num-shards 3 --shard-id 3", "--shard-id 3"),
        ("--num-shards 3 --shard-id -1", "--shard-id -1"),
        ("--num-shards 1 --shard-id 1", "--shard-id 1"),
        ("--num-shards 0", "--num-shards 0"),
        ("--num-shards 2 --distributed-world-size 2", "--distributed-world-size 2"),
    ],
)
def test_no_such_shard(flags, message):
    words = ["data-bin", "--path", "x.pt", *flags.split()]
    with pytest.raises(AdminError, match=message):
        options.parse_args_and_arch(options.get_generation_parser(), words)


def test_other_commands_are_left_alone():
    for parser in (
        options.get_interactive_generation_parser(),
        options.get_validation_parser("translation"),
    ):
        words = ["data-bin", "--path", "x.pt", "--num-shards", "3", "--shard-id", "1"]
        args = options.parse_args_and_arch(parser, words)
        assert args.distributed_world_size == 1 and args.distributed_rank == 0
