"""README's promise, on command lines that people have: two flags change, and what a page says.

The page is docs/coming_from_other_code.md; its tables are read here, so that page and test are one.
:data:`SMALL` and :data:`DROPPED` say what is made smaller, the same for all lines: sizes, depths,
tokens a batch, the number of updates, the number of processes, and --fp16, which needs CUDA. The
languages and the data are those of the tests' corpus. All else stays.
"""

import configparser
import contextlib
import io
import re
import shlex
import subprocess
from argparse import Namespace
from pathlib import Path

import pytest
import torch
from fairseq import options
from fairseq.optim.lr_scheduler.polynomial_decay_schedule import PolynomialDecayLRSchedule

from admin_fairseq.checkpoints import load_checkpoint
from admin_fairseq.optim import FairseqRAdam
from admin_fairseq.profile import file as profile_file
from tests.helpers import REPOSITORY, USER_DIR

PAGE = REPOSITORY / "docs" / "coming_from_other_code.md"
SMALL = """
    --encoder-layers 2 --decoder-layers 2 --encoder-embed-dim 16 --decoder-embed-dim 16
    --encoder-ffn-embed-dim 32 --decoder-ffn-embed-dim 32 --encoder-attention-heads 2
    --decoder-attention-heads 2 --max-tokens 256 -s en -t de --cpu
""".split()
DROPPED = (
    "--fp16",
    "--distributed-world-size",
    "--distributed-port",
    "--source-lang",
    "--target-lang",
    "-s",
    "-t",
)
BASE = "data --optimizer adam --lr-scheduler inverse_sqrt --criterion label_smoothed_cross_entropy"


def read_lines():
    parser = configparser.ConfigParser(interpolation=None)
    with open(Path(__file__).with_name("public_command_lines.ini"), encoding="utf-8") as file:
        parser.read_file(file)
    return {name: pairs(parser[name]["flags"]) for name in parser.sections()}


def pairs(text):
    """[flag, values...] of each flag of a command line."""
    found = []
    for word in shlex.split(text):
        if re.match(r"--?[a-z]", word):
            found.append(word.split("=", 1))
        else:
            found[-1].append(word)
    return found


def words(flags):
    return [word for flag in flags for word in flag]


def read_table(heading):
    """The rows of a table of the page: (theirs, today or None where equal, left unchanged)."""
    section = PAGE.read_text(encoding="utf-8").split(f"\n{heading}\n")[1].split("\n#")[0]
    rows = []
    for line in section.splitlines():
        if line.startswith("| `"):
            theirs, today, unchanged = (cell.strip() for cell in line.split("|")[1:4])
            assert today.startswith("`") or today in ("leave out", "the same"), line
            new = (
                None
                if today == "the same"
                else []
                if today == "leave out"
                else pairs(today.strip("`"))
            )
            rows.append((pairs(theirs.strip("`")), new, unchanged))
    return rows


TRAIN, GENERATE = (
    read_table("## Flags of fairseq-train"),
    read_table("## Flags of fairseq-generate"),
)


def match(pattern, flags):
    """{capital letter: value} if every flag of the pattern is there; else None."""
    values = {}
    for flag, *wanted in pattern:
        given = [rest for name, *rest in flags if name == flag and len(rest) == len(wanted)]
        if not given:
            return None
        for mask, value in zip(wanted, given[-1]):
            letter = re.search(r"[A-Z]$", mask)
            if not re.fullmatch(
                re.escape(mask[:-1]) + "(.*)" if letter else re.escape(mask), value
            ):
                return None
            if letter:
                values[mask[-1]] = value[len(mask) - 1 :]
    return values


def fill(flags, values):
    return [
        [flag] + [re.sub(r"[A-Z]$", lambda m: values[m[0]], word) for word in rest]
        for flag, *rest in flags
    ]


def changed(flags, table=TRAIN):
    """What the page makes of a command's flags."""
    result, new = list(flags), []
    for theirs, today, _ in table:
        values = match(theirs, result)
        if values is not None and today is not None:
            names = [flag for flag, *_ in theirs]
            result = [flag for flag in result if flag[0] not in names]
            new += fill(today, values)
    return result + new


def small(flags):
    given = ("--save-dir", "--init-type", "--admin-profile", "--max-update")  # by the tests
    kept = [flag for flag in flags if flag[0] not in DROPPED + given]
    return (
        words([["--user-dir", USER_DIR] if flag[0] == "--user-dir" else flag for flag in kept])
        + SMALL
    )


def parses(parser, flags):
    """Whether fairseq's parser takes a command; its message."""
    message = io.StringIO()
    try:
        with contextlib.redirect_stderr(message):
            options.parse_args_and_arch(parser, flags)
    except SystemExit:
        return False, message.getvalue()
    return True, ""


def sample(flags):
    """A pattern with values for its capital letters."""
    value = {"--admin-init-type": "adaptive"}
    return [
        [flag]
        + [re.sub(r"[A-Z]$", value.get(flag, "1") if len(word) == 1 else "", word) for word in rest]
        for flag, *rest in flags
    ]


def row_name(row):
    return " ".join(words(row[0]))


@pytest.mark.parametrize("row", TRAIN, ids=row_name)
def test_each_row_for_training(row):
    theirs, today, unchanged = row
    arch = ["--user-dir", USER_DIR, "--arch", "admin_transformer"]
    plain = [flag for flag in sample(theirs) if flag[0] != "--user-dir"]
    accepted, message = parses(options.get_training_parser(), BASE.split() + arch + words(plain))
    assert accepted == unchanged.startswith("accepted") != unchanged.startswith("refused"), message
    assert accepted or "unrecognized arguments" in message or "invalid choice" in message
    if today:
        filled = fill(today, match(theirs, sample(theirs)))
        filled = [["--user-dir", USER_DIR] if flag[0] == "--user-dir" else flag for flag in filled]
        assert parses(options.get_training_parser(), BASE.split() + arch + words(filled)) == (
            True,
            "",
        )


@pytest.mark.parametrize("row", GENERATE, ids=row_name)
def test_each_row_for_translation(row):
    theirs, today, unchanged = row
    base = ["data", "--path", "model.pt"]
    plain = [flag for flag in sample(theirs) if flag[0] != "--user-dir"]
    accepted, message = parses(options.get_generation_parser(), base + words(plain))
    assert accepted == unchanged.startswith("accepted") != unchanged.startswith("refused"), message
    if today and "--user-dir" not in words(today):
        assert parses(options.get_generation_parser(), base + words(today)) == (True, "")


LINES = read_lines()


@pytest.mark.slow
@pytest.mark.subprocess
@pytest.mark.parametrize("name", LINES)
def test_profile_train_resume_translate(name, warm, data_bin, tmp_path):
    flags = small(changed(LINES[name]))
    command = ["fairseq-train", data_bin, *flags, "--save-dir", tmp_path, "--init-type"]
    total = ["--total-num-update", "9"] if "--total-num-update" in flags else []
    warm.run(*command, "adaptive-profiling", "--max-update", "3", *total)
    assert [path.name for path in tmp_path.iterdir()] == ["admin.profile"]
    profile = profile_file.load(tmp_path / "admin.profile")
    assert len(profile.sites) == 10

    first = warm.run(*command, "adaptive", "--max-update", "3", *total).stdout
    assert "omegas of 10 residual sites filled" in first
    state = load_checkpoint(tmp_path / "checkpoint_last.pt")
    assert state["optimizer_history"][-1]["num_updates"] == 3
    assert set(profile.omega) == {
        weight[: -len(".omega")] for weight in state["model"] if weight.endswith(".omega")
    }

    resumed = warm.run(*command, "adaptive", "--max-update", "5", *total).stdout
    assert "Loaded checkpoint" in resumed and "@ 3 updates" in resumed
    words = [
        "fairseq-generate",
        data_bin,
        "--user-dir",
        USER_DIR,
        "--path",
        tmp_path / "checkpoint_last.pt",
        "--cpu",
    ]
    output = warm.run(
        *words, "--beam", "2", "--max-len-b", "10", "--batch-size", "32", "--remove-bpe"
    ).stdout
    assert len(re.findall(r"^H-\d+\t", output, re.M)) == 27, "27 sentences in, 27 hypotheses out"


def test_the_lines_are_many_and_of_many():
    assert len(LINES) >= 14
    changes = [row for row in TRAIN if row[1] is not None]
    used = {
        id(row) for flags in LINES.values() for row in changes if match(row[0], flags) is not None
    }
    assert len(used) >= 15, "rows of the table that some line needs"


@pytest.mark.subprocess
def test_t2t_trains_as_the_pre_ln_model_that_it_is(warm, data_bin, tmp_path):
    flags = small(changed(pairs("--arch transformer_wmt_en_de_big_t2t " + BASE[len("data ") :])))
    command = [
        "fairseq-train",
        data_bin,
        *flags,
        "--save-dir",
        tmp_path,
        "--max-update",
        "3",
        "--init-type",
    ]
    refused = warm.run(*command, "adaptive-profiling", check=False)
    assert refused.returncode == 1 and "--encoder-normalize-before" in refused.stdout
    assert "Traceback" not in refused.stdout
    warm.run(*command, "default")
    assert "encoder.layer_norm.weight" in load_checkpoint(tmp_path / "checkpoint_last.pt")["model"]


@pytest.mark.slow
@pytest.mark.subprocess
def test_sacrebleu_left_unchanged_is_ignored(warm, data_bin, tmp_path):
    flags = small(changed(LINES["WMT'17 En-De base"]))
    warm.run(
        "fairseq-train",
        data_bin,
        *flags,
        "--save-dir",
        tmp_path,
        "--init-type",
        "default",
        "--max-update",
        "1",
    )
    command = [
        "fairseq-generate",
        data_bin,
        "--user-dir",
        USER_DIR,
        "--path",
        tmp_path / "checkpoint_last.pt",
        "--cpu",
    ]
    outputs = [warm.run(*command, *flag.split(), "--max-len-b", "5").stdout for flag in
               ("", "--sacrebleu", "--scoring sacrebleu")]  # fmt: skip
    last = [output.splitlines()[-1] for output in outputs]
    assert ["--sacrebleu does nothing" in output for output in outputs] == [False, True, False]
    assert last[0] == last[1] and "BLEU4 = " in last[0]
    assert "BLEU = " in last[2]


def test_the_linear_schedule():
    """What the page says of it, computed with fairseq's polynomial_decay."""

    def linear(t, lr, min_lr, warmup, total):
        return (lr - min_lr) * (1 - (t - warmup) / (total - warmup)) + min_lr

    flags = dict(
        lr=[3e-4], warmup_updates=10, total_num_update=1000, end_learning_rate=1e-5, power=1.0
    )
    cfg = Namespace(adam_betas="(0.9, 0.98)", adam_eps=1e-8, weight_decay=0.0, lr=[0.0])
    optimizer = FairseqRAdam(cfg, [torch.nn.Parameter(torch.ones(1))])
    schedule = PolynomialDecayLRSchedule(Namespace(**flags, force_anneal=None), optimizer)
    for update in (10, 11, 500, 999, 1000):
        assert schedule.step_update(update) == pytest.approx(linear(update, 3e-4, 1e-5, 10, 1000))
    below = next(update for update in range(1, 100) if linear(update, 3e-4, -1, 1, 100000) < 0)
    assert f"below zero from update {below} on" in PAGE.read_text(encoding="utf-8")


@pytest.mark.subprocess
def test_a_profile_of_one_column_becomes_one_of_two(tmp_path):
    """The page's awk command."""
    command = re.search(r"^    (awk .*)$", PAGE.read_text(encoding="utf-8"), re.M)[1]
    omegas = [1.0 + 0.1 * number for number in range(2 * 60 + 3 * 12)]
    (tmp_path / "wmt14-en-fr-admin-60-12l.txt").write_text(
        "".join(f"{omega}\n" for omega in omegas)
    )
    subprocess.run(command, shell=True, cwd=tmp_path, check=True)
    profile = profile_file.load(tmp_path / "profile.ratio.init")
    assert list(profile.omega.values()) == omegas
    assert list(profile.omega)[119] == "encoder.layers.59.ffn_residual"
