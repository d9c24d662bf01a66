"""docs/when_training_goes_wrong.md: its messages are fairseq's, and its commands run."""

import re
import shlex
import shutil

import pytest
import torch

from admin_fairseq.checkpoints import load_checkpoint
from tests.helpers import REPOSITORY, TRAIN_FLAGS, USER_DIR, run

pytestmark = pytest.mark.subprocess

PAGE = (REPOSITORY / "docs" / "when_training_goes_wrong.md").read_text(encoding="utf-8")
LINES = re.findall(r"^    (\S.*)$", PAGE.replace("\\\n", " "), re.M)
HALF = "--lr 1e30 --warmup-updates 1 --memory-efficient-fp16 --optimizer adam"
COMMON = ["--user-dir", USER_DIR, "--cpu", *TRAIN_FLAGS]


def line_with(words):
    (line,) = [line for line in LINES if words in line]
    return line


@pytest.fixture(scope="module")
def place(warm, data_bin, tmp_path_factory):
    folder = tmp_path_factory.mktemp("wrong")
    shutil.copytree(data_bin, folder / "data-bin" / "my_corpus")
    start = [
        "fairseq-train",
        data_bin,
        *COMMON,
        "--init-type",
        "adaptive-auto",
        "--max-update",
        "2",
        "--save-dir",
    ]
    warm.run(*start, folder / "checkpoints" / "admin-18")
    yield folder, warm


def with_flags(line, *flags):
    """Return a command of the page as words, its arrays filled in, with some flags at the end."""
    arrays = {
        "${train[@]}": ["fairseq-train", "data-bin/my_corpus", *COMMON],
        "${model[@]}": [*TRAIN_FLAGS, "--out", "out"],
    }
    words = []
    for word in shlex.split(line):
        words += arrays.get(word, [word])
    return [*words, *flags]


def test_every_command_of_the_page_is_run_here():
    tried = ["analyze stability", "--checkpoint-activations", "--update-epoch-batch-itr"]
    tried += ["fairseq-generate", "admin-fairseq score", "grep -c"]
    assert all(sum(words in line for words in tried) == 1 for line in LINES) and len(LINES) == len(
        tried
    )


def test_the_commands_that_train(place):
    folder, warm = place
    for words in ("--checkpoint-activations", "--update-epoch-batch-itr"):
        line = with_flags(
            line_with(words),
            "--max-tokens",
            "128",
            "--max-update",
            "3",
            "--save-dir",
            words.strip("-"),
        )
        assert "done training" in warm.run(*line, "--init-type", "adaptive-auto", cwd=folder).stdout


def test_stability_knows_the_plateau(place):
    """At 18 layers Post-LN is what the page quotes; the same model as Admin is not."""
    folder, _ = place
    deep = [
        "--encoder-layers",
        "18",
        "--decoder-layers",
        "18",
        "--encoder-embed-dim",
        "64",
        "--decoder-embed-dim",
        "64",
    ]
    line = with_flags(line_with("analyze stability"), *deep)
    quoted = re.search(r'"(the decoder depends on .*?)" is\s+this failure', PAGE)[1]
    assert quoted in run(*line, cwd=folder).stdout
    assert quoted not in run(*line, "--models", "admin", cwd=folder).stdout


def test_scores_and_counts(place):
    folder, warm = place
    command = shlex.split(line_with("fairseq-generate"))
    at = command.index(">")
    command[command.index("admin_fairseq")] = USER_DIR
    output = warm.run(*command[:at], "--cpu", "--max-len-b", "9", cwd=folder).stdout
    (folder / command[at + 1]).write_text(output)
    test_set = re.findall(r"^T-(\d+)\t(.*)$", output, re.M)
    (folder / "test.de").write_text(
        "".join(text + "\n" for _, text in sorted(test_set, key=lambda item: int(item[0])))
    )
    assert run("bash", "-c", line_with("grep -c"), cwd=folder).stdout == "27\n"
    scores = run(*shlex.split(line_with("admin-fairseq score")), cwd=folder).stdout
    assert [line.split("  ")[0] for line in scores.splitlines()] == [
        "tokenised BLEU",
        "split BLEU",
        "sacreBLEU",
        "chrF",
    ]


@pytest.mark.parametrize(
    "flags, message",
    [
        (
            "--lr 1e30 --warmup-updates 1 --clip-norm 1.0",
            "FloatingPointError: gradients are Nan/Inf",
        ),
        (
            f"{HALF} --fp16-init-scale 1024 --min-loss-scale 1023",
            "Minimum loss scale reached (1023.0). Your loss is probably exploding.",
        ),
        (HALF, "Torch not compiled with CUDA enabled"),
    ],
    ids=["NaN", "floor", "overflow on a CPU"],
)
def test_messages(place, data_bin, flags, message):
    folder, warm = place
    if "CUDA" in message and torch.backends.cuda.is_built():
        pytest.skip("torch has CUDA: the message is another")
    command = [
        "fairseq-train",
        data_bin,
        *COMMON,
        *flags.split(),
        "--max-update",
        "40",
        "--no-save",
    ]
    result = warm.run(*command, cwd=folder, check=False)
    assert result.returncode != 0 and (message in result.stdout or "StopIteration" in result.stdout)
    assert message.replace("1023.0", "0.0001") in PAGE


@pytest.mark.parametrize(
    "flags, same",
    [
        ("--update-epoch-batch-itr True", True),
        ("", False),
        ("--update-epoch-batch-itr True --bf16", False),
    ],
)
def test_what_a_resumed_training_equals(place, data_bin, tmp_path, flags, same):
    _, warm = place
    command = [
        "fairseq-train",
        data_bin,
        *COMMON,
        *flags.split(),
        "--init-type",
        "default",
        "--no-epoch-checkpoints",
    ]
    command += ["--save-dir"]
    warm.run(*command, tmp_path / "whole", "--max-epoch", "3")
    for epochs in ("1", "3"):
        warm.run(*command, tmp_path / "stopped", "--max-epoch", epochs)
    whole, stopped = (
        load_checkpoint(tmp_path / name / "checkpoint_last.pt")["model"]
        for name in ("whole", "stopped")
    )
    assert all(torch.equal(value, stopped[name]) for name, value in whole.items()) == same
