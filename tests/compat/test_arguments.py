"""Command lines that fairseq answered with a riddle."""

import pytest
from fairseq import options

from admin_fairseq.options import ADMIN_FLAGS
from tests.helpers import USER_DIR, run


def message(capsys, *words):
    """What argparse ends with."""
    with pytest.raises(SystemExit) as end:
        options.parse_args_and_arch(options.get_training_parser(), ["data-bin", *words])
    assert end.value.code == 2
    return capsys.readouterr().err


@pytest.mark.parametrize(
    "arch",
    [
        "transformer",
        "transformer_iwslt_de_en",
        "transformer_wmt_en_de",
        "transformer_wmt_en_de_big",
    ],
)
def test_the_counterpart_is_named(capsys, arch):
    text = message(capsys, "--arch", arch, "--init-type", "adaptive")
    assert "error: unrecognized arguments: --init-type adaptive" in text
    assert (
        "--init-type: these flags go with --arch admin_transformer*: "
        f"use --arch admin_{arch} in place of" in text
    )


@pytest.mark.parametrize("name", ADMIN_FLAGS)
def test_every_flag_of_ours(capsys, name):
    flag = "--" + name.replace("_", "-")
    text = message(capsys, "-a", "transformer", flag + "=1")
    assert (
        f"{flag}: these flags go with" in text and "use --arch admin_transformer in place" in text
    )


def test_an_architecture_without_a_counterpart(capsys):
    text = message(capsys, "--arch", "lstm", "--trace-interval", "3", "--xavier-ffn")
    assert (
        "--trace-interval, --xavier-ffn: these flags go with --arch admin_transformer*, "
        "not with --arch lstm" in text
    )
    assert "choose from admin_transformer, admin_transformer_iwslt_de_en" in text


def test_other_errors_are_as_before(capsys):
    text = message(capsys, "--arch", "transformer", "--no-such-flag", "--optimizer", "adam")
    assert text.strip().endswith("error: unrecognized arguments: --no-such-flag")
    text = message(capsys, "--arch", "admin_transformer", "--init-type", "no-such-type")
    assert "invalid choice: 'no-such-type'" in text and "go with" not in text


def test_an_architecture_is_needed(capsys):
    assert "error: the following arguments are required: --arch" in message(
        capsys, "--optimizer", "adam"
    )


def test_the_parser_is_left_as_it_was(capsys):
    parser = options.get_training_parser()
    error = parser.error
    options.parse_args_and_arch(parser, ["data-bin", "--arch", "transformer"])
    assert parser.error == error


@pytest.mark.subprocess
def test_on_the_command_line(tmp_path):
    words = ["--user-dir", USER_DIR, "--arch", "transformer_iwslt_de_en", "--init-type", "adaptive"]
    result = run("fairseq-train", tmp_path, *words, check=False)
    assert result.returncode == 2 and "Traceback" not in result.stdout
    assert (
        "use --arch admin_transformer_iwslt_de_en in place of --arch transformer_iwslt_de_en"
        in result.stdout
    )


@pytest.mark.subprocess
def test_a_checkpoint_has_its_own(tmp_path):
    words = ["--user-dir", USER_DIR, "--path", "x.pt", "--init-type", "adaptive"]
    result = run("fairseq-generate", tmp_path, *words, check=False)
    assert (
        result.returncode == 2 and "a checkpoint has its own: leave them out here" in result.stdout
    )
