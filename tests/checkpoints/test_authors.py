"""Importing the authors' checkpoints: files in their layout, built from their recorded weights."""

import argparse
import json
import os
import sys
import types

import pytest
import torch

from admin_fairseq import cli
from admin_fairseq.checkpoints import authors, load_checkpoint, rebuild, stored_args
from tests.helpers import USER_DIR, run, train
from tests.parity import BATCHES, check_outputs, read

MODELS = {
    "mini_admin_2-3": (["sd0", "sd2_ratio"], "stage2/{}"),
    "mini_admin_6-6": (["sd0", "sd2_ratio"], "stage2/{}"),
    "mini_init_deepnet": (["sd0"], "eval/{}"),
    "mini_init_default": (["sd0"], "eval/{}"),
    "mini_init_default_preln": (["sd0"], "eval/{}"),
    "mini_init_looklinear": (["sd0"], "eval/{}"),
}


def authors_state(name, shared=True, prefixes=None):
    """What their fairseq 0.8 saves."""
    data = read(name)
    weights = {}
    for prefix in prefixes or MODELS[name][0]:
        weights.update(
            {
                key[len(prefix) + 1 :]: torch.from_numpy(data[key])
                for key in data
                if key.startswith(prefix + "/")
            }
        )
    args = argparse.Namespace(**json.loads(str(data["args_json"])))
    if not shared:
        args.share_all_embeddings = False
        weights["decoder.embed_out"] = weights["decoder.embed_tokens.weight"].clone()
    return {
        "args": args,
        "model": weights,
        "optimizer_history": [
            {"criterion_name": "LabelSmoothedCrossEntropyCriterion", "num_updates": 12}
        ],
        "extra_state": {"train_iterator": {"epoch": 3}, "val_loss": 3.2},
        "last_optimizer_state": {"state": {}, "param_groups": []},
    }


def imported(tmp_path, state, name="ours.pt"):
    torch.save(state, tmp_path / "theirs.pt")
    assert cli.main(["import", str(tmp_path / "theirs.pt"), str(tmp_path / name)]) == 0
    return tmp_path / name


def restored(path):
    state = load_checkpoint(path)
    return rebuild(stored_args(state, path), state["model"], path)


@pytest.mark.parametrize("shared", [True, False], ids=["shared", "not-shared"])
@pytest.mark.parametrize("name", MODELS)
def test_outputs_are_the_recorded_ones(tmp_path, name, shared):
    model = restored(imported(tmp_path, authors_state(name, shared)))
    for batch in BATCHES:
        check_outputs(model, read(name), batch, MODELS[name][1].format(batch))


@pytest.mark.parametrize("name", ["mini_admin_2-3", "mini_init_deepnet"])
def test_every_weight_matters(tmp_path, name):
    model = restored(imported(tmp_path, authors_state(name, prefixes=["pert/sd"])))
    check_outputs(model, read(name), "mixed", "pert/mixed")


@pytest.mark.parametrize("name", ["mini_admin_2-3", "mini_init_deepnet"])
def test_an_imported_model_folds(tmp_path, name):
    path = imported(tmp_path, authors_state(name, prefixes=["pert/sd"]))
    assert cli.main(["fold", str(path), str(tmp_path / "stock.pt")]) == 0
    model = restored(tmp_path / "stock.pt")
    assert not [weight for weight in model.state_dict() if weight.endswith(("omega", "alpha"))]
    check_outputs(model, read(name), "mixed", "pert/mixed")


def test_fairseq_generates_and_fine_tunes(data_bin, tmp_path):
    """Their embedding has 128 types and the corpus fewer: it is cut to fit."""
    types_ = len((data_bin / "dict.en.txt").read_text().splitlines()) + 4
    state = authors_state("mini_admin_2-3")
    for key in ("encoder.embed_tokens.weight", "decoder.embed_tokens.weight"):
        state["model"][key] = state["model"][key][:types_]
    path = imported(tmp_path, state)
    out = run(
        "fairseq-generate",
        data_bin,
        "--user-dir",
        USER_DIR,
        "--path",
        path,
        "--cpu",
        "--max-len-b",
        "5",
    ).stdout
    assert out.count("\nH-") == 27
    flags = """
        --decoder-layers 3 --arch admin_transformer --init-type adaptive --lr 1e-9 --max-update
        1
    """.split()
    train(
        data_bin, tmp_path / "run", "--finetune-from-model", path, *flags, "--no-epoch-checkpoints"
    )
    tuned = load_checkpoint(tmp_path / "run" / "checkpoint_last.pt")["model"]
    start = load_checkpoint(path)["model"]
    assert set(tuned) == set(start) and all(
        torch.allclose(value, start[name], atol=1e-6) for name, value in tuned.items()
    )


class Meter:
    def __init__(self):
        self.val, self.sum = 1.0, 2.0


def test_meters_are_read_without_their_code(tmp_path, monkeypatch, capsys):
    meters = types.ModuleType("fairseq.meters")
    meters.AverageMeter = type("AverageMeter", (Meter,), {"__module__": "fairseq.meters"})
    monkeypatch.setitem(sys.modules, "fairseq.meters", meters)
    state = authors_state("mini_admin_2-3")
    state["extra_state"]["train_meters"] = {"train_loss": meters.AverageMeter()}
    torch.save(state, tmp_path / "theirs.pt")
    monkeypatch.delitem(sys.modules, "fairseq.meters")
    assert cli.main(["import", str(tmp_path / "theirs.pt"), str(tmp_path / "ours.pt")]) == 0
    assert (
        type(authors.read(tmp_path / "theirs.pt")["extra_state"]["train_meters"]["train_loss"])
        is authors.Meter
    )
    assert cli.main(["fold", str(tmp_path / "theirs.pt"), str(tmp_path / "x.pt")]) == 1
    assert "admin-fairseq import" in capsys.readouterr().err, "elsewhere they stay refused"


class Bomb:
    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def refused(capsys, tmp_path, state):
    torch.save(state, tmp_path / "theirs.pt")
    before = sorted(path.name for path in tmp_path.iterdir())
    assert cli.main(["import", str(tmp_path / "theirs.pt"), str(tmp_path / "ours.pt")]) == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == before
    error = capsys.readouterr().err
    assert error.count("error:") == 1 and "Traceback" not in error
    return error


def test_nothing_that_a_file_holds_is_run(tmp_path, capsys):
    state = authors_state("mini_admin_2-3")
    bomb = Bomb()
    bomb.path = tmp_path / "ran"
    assert "posix.mkdir" in refused(capsys, tmp_path, {**state, "extra_state": {"it": bomb}})
    assert not bomb.path.exists()


def test_all_that_is_wrong_is_told_at_once(tmp_path, capsys):
    state = authors_state("mini_admin_2-3")
    state["args"].init_type = "nonsense"
    del state["args"].encoder_layers, state["args"].decoder_attention_heads
    error = refused(capsys, tmp_path, state)
    assert (
        "init_type nonsense: unknown" in error
        and "encoder_layers" in error
        and "decoder_attention_heads" in error
    )

    state = authors_state("mini_admin_2-3")
    del (
        state["model"]["decoder.layers.1.fc1.weight"],
        state["model"]["encoder.layers.0.fc_ratio_change"],
    )
    state["model"]["decoder.layers.0.surprise"] = torch.zeros(1)
    error = refused(capsys, tmp_path, state)
    assert (
        "decoder.layers.1.fc1.weight is missing" in error
        and "encoder.layers.0.ffn_residual.omega is missing" in error
    )
    assert "decoder.layers.0.surprise is not the model's" in error


@pytest.mark.parametrize("init_type", ["rezero", "rezero_postln"])
def test_rezero_is_refused_with_the_reason(tmp_path, capsys, init_type):
    state = authors_state("mini_admin_2-3")
    state["args"].init_type = init_type
    assert "have no counterpart" in refused(capsys, tmp_path, state)


def test_other_files_are_no_authors_checkpoints(tmp_path, capsys):
    state = authors_state("mini_admin_2-3")
    assert "no 'args'" in refused(capsys, tmp_path, {"model": state["model"]})
    del state["args"].init_type
    assert "no init_type" in refused(capsys, tmp_path, state)
    for flags, reason in (
        ({"arch": "transformer_lm"}, "arch transformer_lm"),
        ({"task": "multilingual_translation"}, "task multilingual_translation"),
        ({"admin_profile": None}, "of this plugin already"),
        ({"encoder_layers": "two"}, "encoder_layers is 'two'"),
        ({"init_type": ["a"]}, "unknown"),
    ):
        other = authors_state("mini_admin_2-3")
        vars(other["args"]).update(flags)
        assert reason in refused(capsys, tmp_path, other)
    assert "fairseq 0.10 or later" in refused(
        capsys, tmp_path, {**state, "cfg": {"model": state["args"]}}
    )
    (tmp_path / "half.pt").write_bytes((tmp_path / "theirs.pt").read_bytes()[:3000])
    assert cli.main(["import", str(tmp_path / "half.pt"), str(tmp_path / "ours.pt")]) == 1
