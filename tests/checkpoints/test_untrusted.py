"""A checkpoint from outside is data: nothing in it is run, opened or believed."""

import argparse
import copy
import os
import zipfile
from dataclasses import fields

import numpy as np
import pytest
import torch
from fairseq import checkpoint_utils, utils
from fairseq.models import fconv, transformer_lm
from fairseq.models.transformer import TransformerConfig
from hypothesis import given
from hypothesis import strategies as st

from admin_fairseq import cli
from admin_fairseq.checkpoints import flag_types, load_checkpoint
from admin_fairseq.errors import AdminError
from admin_fairseq.literal import literal
from admin_fairseq.options import AdminOptions
from tests.helpers import run, train

TRAP = "__import__('os').system('touch {}')"


@pytest.fixture(scope="module")
def trained(data_bin, tmp_path_factory):
    folder = tmp_path_factory.mktemp("trained")
    train(
        data_bin,
        folder,
        "--init-type",
        "adaptive-auto",
        "--max-update",
        "2",
        "--no-epoch-checkpoints",
    )
    return folder / "checkpoint_last.pt"


def changed(path, out, change):
    state = torch.load(path, weights_only=True)
    change(state)
    torch.save(state, out)
    return out


def refused(capsys, *words):
    assert cli.main([str(word) for word in words]) == 1
    error = capsys.readouterr().err
    assert error.count("error:") == 1 and "Traceback" not in error
    return error


TRAPS = ["adaptive_softmax_cutoff", "encoder_xformers_att_config", "decoder_xformers_att_config"]


@pytest.mark.subprocess
@pytest.mark.parametrize("flag", TRAPS)
def test_flags_are_not_evaluated(trained, data_bin, tmp_path, capsys, flag):
    mark = tmp_path / "ran"
    trap = changed(
        trained,
        tmp_path / "trap.pt",
        lambda state: vars(state["cfg"]["model"]).update({flag: TRAP.format(mark)}),
    )
    assert flag in refused(capsys, "fold", trap, tmp_path / "out.pt")
    assert flag in refused(capsys, "import", trap, tmp_path / "out.pt")
    assert flag in refused(capsys, "average", "--inputs", trap, "--output", tmp_path / "out.pt")
    assert flag in refused(
        capsys, "analyze", "gradients", data_bin, "--cpu", "--models", trap, "--out", tmp_path / "x"
    )
    with pytest.raises(AdminError, match=flag):
        checkpoint_utils.load_model_ensemble_and_task([str(trap)])
    assert not mark.exists()


@pytest.mark.subprocess
def test_fairseqs_own_commands_evaluate_nothing(trained, data_bin, tmp_path):
    mark = tmp_path / "ran"
    text = TRAP.format(mark)

    def in_cfg(state):
        vars(state["cfg"]["model"])["adaptive_softmax_cutoff"] = text

    def in_args(state):
        flags = {**vars(state["cfg"]["model"]), "adaptive_softmax_cutoff": text}
        state.update(cfg=None, args=argparse.Namespace(**flags))

    def in_dict(state):
        flags = {**vars(state["cfg"]["model"]), "decoder_xformers_att_config": text}
        state["cfg"].update(model=flags)

    for name, change in (("cfg", in_cfg), ("args", in_args), ("dict", in_dict)):
        trap = changed(trained, tmp_path / f"{name}.pt", change)
        command = [
            "fairseq-generate",
            data_bin,
            "--user-dir",
            "admin_fairseq",
            "--path",
            trap,
            "--cpu",
            "--quiet",
        ]
        result = run(*command, check=False, cwd=os.path.dirname(os.path.dirname(__file__)))
        assert result.returncode == 1 and result.stdout.count("admin_fairseq: error:") == 1, (
            result.stdout[-2000:]
        )
        assert "Traceback" not in result.stdout and not mark.exists()


def test_the_trap_would_snap(tmp_path, monkeypatch):
    """Without the workaround fairseq runs the text."""
    monkeypatch.delattr(utils, "eval")
    utils.eval_str_list(TRAP.format(tmp_path / "ran"))
    assert (tmp_path / "ran").exists()


def test_evaluated_flags_are_literals_everywhere(tmp_path):
    assert utils.eval_str_list("1e-3,5e-4") == [1e-3, 5e-4] and utils.eval_str_list("7", int) == [7]
    assert utils.eval_str_dict("{'a': 1}") == {"a": 1} and utils.eval_bool("False") is False
    for module in (utils, fconv, transformer_lm):
        with pytest.raises(ValueError, match="would have to be run"):
            module.eval(TRAP.format(tmp_path / "ran"))
    assert not (tmp_path / "ran").exists()
    assert fconv.eval("[(512, 3)] * 20") == [(512, 3)] * 20


values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=9),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.tuples(inner)
        | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=10,
)


@given(values)
def test_literals_are_what_python_says(value):
    assert literal(repr(value)) == value


@pytest.mark.parametrize(
    "text",
    [
        "2 ** 9 ** 9",
        "[0] * 10**9",
        "'a' * 10**7",
        "x",
        "f()",
        "(" * 5000,
        "[1][0]",
        "{**{}}",
        "lambda: 1",
        "",
    ],
)
def test_what_is_no_literal(text):
    with pytest.raises(ValueError):
        literal(text)


WRONG = [
    {"encoder_layers": "2"},
    {"encoder_layers": 10**9},
    {"encoder_layers": 3},
    {"encoder_layers": 2.0},
    {"decoder_layers": None},
    {"encoder_attention_heads": 2.0},
    {"max_source_positions": 1024.0},
    {"share_all_embeddings": "False"},
    {"adaptive_softmax_cutoff": [10, 20]},
    {"dropout": "0.1"},
    {"dropout": float("nan")},
    {"dropout": 2},
    {"encoder_embed_dim": 2**31},
    {"max_source_positions": 10**12},
    {"share_all_embeddings": [1]},
    {"activation_fn": "exec"},
    {"adaptive_softmax_cutoff": [{}]},
    {"decoder_embed_path": 3},
    {"encoder_layers_to_keep": {"a": 1}},
    {"decoder_output_dim": 10**9},
    {"adaptive_softmax_cutoff": [10**9]},
    {"encoder_attention_heads": 10**8},
    {"layernorm_embedding": "${oc.env:HOME}"},
    {"arch": ["transformer"]},
    {"quant_noise_pq": "x"},
    {"init_type": "nonsense"},
]


@pytest.mark.subprocess
@pytest.mark.parametrize("wrong", WRONG, ids=[str(wrong) for wrong in WRONG])
def test_flags_of_another_type_or_size(trained, tmp_path, capsys, wrong):
    bad = changed(
        trained, tmp_path / "bad.pt", lambda state: vars(state["cfg"]["model"]).update(wrong)
    )
    error = refused(capsys, "fold", bad, tmp_path / "out.pt")
    named = next(iter(wrong)).replace("_", "-") in error.replace("_", "-")
    assert named or "architecture" in error or "lacks weights of the output layer" in error
    assert not (tmp_path / "out.pt").exists()


@pytest.mark.subprocess
def test_all_wrong_flags_are_told_at_once(trained, tmp_path, capsys):
    wrong = {"encoder_layers": "2", "dropout": "0.1"}
    bad = changed(
        trained, tmp_path / "bad.pt", lambda state: vars(state["cfg"]["model"]).update(wrong)
    )
    error = refused(capsys, "fold", bad, tmp_path / "out.pt")
    assert (
        "encoder_layers is '2', which is not a whole number" in error
        and "dropout is '0.1', which is not a number" in error
    )


@pytest.mark.subprocess
def test_cutoffs_of_older_releases_are_text(trained, tmp_path):
    old = changed(
        trained,
        tmp_path / "old.pt",
        lambda state: vars(state["cfg"]["model"]).update(adaptive_softmax_cutoff="10,20"),
    )
    assert load_checkpoint(old)["cfg"]["model"].adaptive_softmax_cutoff == [10, 20]


@pytest.mark.subprocess
@pytest.mark.parametrize(
    "part", ["optimizer_history", "extra_state", "task_state", "args", "cfg", "model"]
)
def test_parts_of_another_kind(trained, tmp_path, capsys, part):
    bad = changed(trained, tmp_path / "bad.pt", lambda state: state.update({part: 5}))
    assert part in refused(capsys, "fold", bad, tmp_path / "out.pt")


@pytest.mark.subprocess
def test_files_that_flags_name_are_not_opened(trained, data_bin, tmp_path):
    os.mkfifo(tmp_path / "pipe")
    paths = {
        "encoder_embed_path": str(tmp_path / "pipe"),
        "decoder_embed_path": "https://nowhere.invalid/x",
    }
    bad = changed(
        trained, tmp_path / "bad.pt", lambda state: vars(state["cfg"]["model"]).update(paths)
    )
    assert cli.main(["fold", str(bad), str(tmp_path / "out.pt")]) == 0
    models, _, _ = checkpoint_utils.load_model_ensemble_and_task(
        [str(bad)], arg_overrides={"data": str(data_bin)}
    )
    assert len(models) == 1
    state = torch.load(tmp_path / "out.pt", weights_only=True)
    assert state["cfg"]["model"].encoder_embed_path is None


@pytest.mark.subprocess
@pytest.mark.parametrize("section", ["bpe", "model"])
def test_nothing_is_fetched_for_a_checkpoint(trained, tmp_path, section):
    def change(state):
        flags = {"_name": "subword_nmt", "bpe_codes": "http://nowhere.invalid/codes"}
        vars(state["cfg"]["model"]).update(flags) if section == "model" else state["cfg"].update(
            bpe=flags
        )

    with pytest.raises(AdminError, match="nothing is fetched"):
        checkpoint_utils.load_checkpoint_to_cpu(str(changed(trained, tmp_path / "bad.pt", change)))


@pytest.mark.subprocess
def test_a_configuration_that_is_text_is_none(trained, tmp_path):
    """omegaconf would read it as YAML."""
    text = "model: {_name: transformer, encoder_embed_path: /nowhere}"
    with pytest.raises(AdminError, match="its cfg is not a dict"):
        checkpoint_utils.load_checkpoint_to_cpu(
            str(changed(trained, tmp_path / "bad.pt", lambda state: state.update(cfg=text)))
        )


@pytest.mark.subprocess
def test_a_stored_user_dir_is_not_imported(trained, tmp_path):
    own = tmp_path / "evil_dir"
    own.mkdir()
    (own / "__init__.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")

    def change(state):
        state["cfg"]["common"]["user_dir"] = vars(state["cfg"]["model"])["user_dir"] = str(own)

    assert (
        cli.main(
            ["fold", str(changed(trained, tmp_path / "bad.pt", change)), str(tmp_path / "out.pt")]
        )
        == 0
    )
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("command", ["fold", "import", "average"])
def test_pipes_and_devices_are_not_read(tmp_path, capsys, command):
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", "/dev/zero", tmp_path):
        words = (
            ["average", "--inputs", path, "--output", tmp_path / "o"]
            if command == "average"
            else [command, path, tmp_path / "o"]
        )
        assert str(path) in refused(capsys, *words)


@pytest.mark.subprocess
def test_no_pipe_is_replaced(trained, tmp_path, capsys):
    """Nobody reads it: nothing waits, and it is still there."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    for words in (
        ("fold", trained, pipe, "--force"),
        ("average", "--inputs", trained, "--output", pipe),
    ):
        assert f"{pipe}: cannot be written: nobody reads from it" in refused(capsys, *words)
    assert pipe.is_fifo()


@pytest.mark.subprocess
def test_checksums_are_compared(trained, data_bin, tmp_path, capsys):
    """One bit of a weight: torch loads it without a word."""
    data = bytearray(trained.read_bytes())
    with zipfile.ZipFile(trained) as archive:
        weights = [part for part in archive.infolist() if "/data/" in part.filename]
        part = archive.read(max(weights, key=lambda part: part.file_size))
    data[data.index(part) + len(part) // 4 * 2 + 3] ^= 0x40
    bad = tmp_path / "bad.pt"
    bad.write_bytes(data)
    torch.load(bad, weights_only=True)
    assert "checksum" in refused(capsys, "fold", bad, tmp_path / "out.pt")
    assert "checksum" in refused(
        capsys, "average", "--inputs", trained, bad, "--output", tmp_path / "out.pt"
    )
    with pytest.raises(AdminError, match="checksum"):
        checkpoint_utils.load_checkpoint_to_cpu(str(bad))
    assert not (tmp_path / "out.pt").exists()


@pytest.mark.subprocess
def test_files_without_checksums_still_load(trained, tmp_path, caplog):
    """torch.serialization.set_crc32_options(False), and the format before torch 1.6."""
    state = torch.load(trained, weights_only=True)
    torch.save(state, tmp_path / "legacy.pt", _use_new_zipfile_serialization=False)
    if hasattr(torch.serialization, "set_crc32_options"):
        torch.serialization.set_crc32_options(False)
        try:
            torch.save(state, tmp_path / "plain.pt")
        finally:
            torch.serialization.set_crc32_options(True)
    for path in tmp_path.iterdir():
        with caplog.at_level("INFO"):
            assert load_checkpoint(path)["model"].keys() == state["model"].keys()
        assert "damage cannot be detected" in caplog.text
        caplog.clear()


@pytest.mark.subprocess
def test_weights_that_are_not_finite(trained, data_bin, tmp_path, capsys):
    name = "decoder.layers.1.ffn_residual.omega"
    bad = changed(
        trained, tmp_path / "bad.pt", lambda state: state["model"][name].fill_(float("nan"))
    )
    for words in (
        ("fold", bad, tmp_path / "o"),
        ("average", "--inputs", bad, "--output", tmp_path / "o"),
    ):
        assert f"{name} holds NaN" in refused(capsys, *words)
    with pytest.raises(AdminError, match=f"{name} holds NaN"):
        checkpoint_utils.load_checkpoint_to_cpu(str(bad))


def test_every_flag_of_fairseqs_has_a_check():
    """Whatever fairseq's Transformer takes from flags, today and later, is checked by its type."""
    nested = [
        f"{prefix}_{flag.name}"
        for prefix, config in flag_types.NESTED.items()
        for flag in fields(config)
    ]
    names = nested + [
        flag.name for config in (TransformerConfig, AdminOptions) for flag in fields(config)
    ]
    checks = flag_types.MODEL_CHECKS
    unknown = [name for name in names if name not in checks and not name.endswith("_name")]
    assert set(unknown) == {
        "encoder",
        "decoder",
        "quant_noise",
        "init_type",
        *flag_types.DICTIONARIES,
    }


def test_flags_of_other_models_mean_other_things(tmp_path):
    """fconv's encoder_layers is a list of convolutions, as text."""
    other = argparse.Namespace(
        arch="fconv_iwslt_de_en",
        encoder_layers="[(256, 3)] * 4",
        decoder_attention="True",
        dropout=0.1,
    )
    torch.save({"model": {}, "args": other}, tmp_path / "fconv.pt")
    assert load_checkpoint(tmp_path / "fconv.pt")["args"].encoder_layers == "[(256, 3)] * 4"


@pytest.mark.subprocess
def test_flags_of_older_releases(trained, tmp_path):
    def old(state):
        flags = {
            "data": ["a", "b"],
            "left_pad_source": "True",
            "lr": [0.1],
            "max_epoch": np.int64(3),
            "dtype": torch.float16,
        }
        vars(state["cfg"]["model"]).update(flags)

    assert load_checkpoint(changed(trained, tmp_path / "old.pt", old))["cfg"]["model"].data == [
        "a",
        "b",
    ]


@pytest.mark.subprocess
def test_flags_of_the_task(trained, tmp_path, capsys):
    bad = changed(
        trained,
        tmp_path / "bad.pt",
        lambda state: state["cfg"]["task"].update(source_lang=5, left_pad_source="maybe"),
    )
    error = refused(capsys, "fold", bad, tmp_path / "out.pt")
    assert (
        "task.source_lang is 5, which is not text" in error
        and "task.left_pad_source is 'maybe'" in error
    )


def test_numpy_arrays_are_read_and_objects_are_not(tmp_path):
    state = {
        "model": {},
        "extra_state": {
            "counts": np.array([1, 2]),
            "loss": np.float64(0.5),
            "flag": np.bool_(True),
        },
    }
    torch.save(state, tmp_path / "numpy.pt")
    kept = load_checkpoint(tmp_path / "numpy.pt")["extra_state"]
    assert kept["counts"].tolist() == [1, 2] and kept["loss"] == 0.5
    torch.save(
        {"model": {}, "extra_state": {"x": np.array([copy, None], dtype=object)[1:]}},
        tmp_path / "object.pt",
    )
    with pytest.raises(AdminError, match="which is not loaded|damaged"):
        load_checkpoint(tmp_path / "object.pt")


@pytest.mark.subprocess
def test_control_characters_do_not_reach_the_terminal(trained, tmp_path, capsys):
    evil = "\x1b]0;owned\x07\x1b[2J\u202e"

    def change(state):
        state["model"][f"encoder.layers.0.{evil}"] = torch.zeros(1)

    error = refused(
        capsys, "fold", changed(trained, tmp_path / "bad.pt", change), tmp_path / "out.pt"
    )
    assert (
        "\x1b" not in error
        and "\x07" not in error
        and "\u202e" not in error
        and "\\x1b]0;owned" in error
    )
    bad = changed(
        trained,
        tmp_path / "bad.pt",
        lambda state: vars(state["cfg"]["model"]).update({evil: 1, "arch": evil}),
    )
    assert "\x1b" not in refused(capsys, "fold", bad, tmp_path / "out.pt")
