"""The admin-fairseq command."""

import subprocess

import numpy as np
import pytest
import torch

from admin_fairseq import cli
from admin_fairseq.checkpoints import load_checkpoint
from admin_fairseq.checkpoints.average import average, find_checkpoints
from admin_fairseq.errors import AdminError
from admin_fairseq.profile import file as profile_file
from admin_fairseq.profile.measure import profile_omega
from tests.helpers import adaptive, batch, run


@pytest.fixture
def profile(tmp_path):
    measured = profile_omega(adaptive(layers=(3, 2)), batch())
    measured.provenance["seed"] = 7
    profile_file.save(measured, tmp_path / "admin.profile")
    return tmp_path / "admin.profile"


def test_profile_prints_the_table(profile, capsys):
    assert cli.main(["profile", str(profile)]) == 0
    out = capsys.readouterr().out
    assert "seed: 7" in out and out.count("_residual") == 12


def test_profile_draws_both_stacks(profile, tmp_path):
    assert cli.main(["profile", str(profile), "--plot", str(tmp_path / "out.png")]) == 0
    assert (tmp_path / "out.png").read_bytes().startswith(b"\x89PNG")


def test_omegas_are_what_is_drawn(profile, monkeypatch, tmp_path):
    from admin_fairseq import plots

    drawn = {}
    monkeypatch.setattr(plots, "draw_omega", lambda axis, stacks: drawn.update(stacks))
    cli.main(["profile", str(profile), "--plot", str(tmp_path / "out.png")])
    omegas = profile_file.load(profile).omega
    assert {name: len(values) for name, values in drawn.items()} == {"encoder": 6, "decoder": 6}
    assert drawn["encoder"] + drawn["decoder"] == list(omegas.values())


@pytest.mark.parametrize(
    "arguments", [["profile", "none"], ["profile", "{profile}", "--plot", "no/folder/x.png"]]
)
def test_profile_errors(profile, arguments, capsys):
    assert cli.main([word.format(profile=profile) for word in arguments]) == 1
    assert capsys.readouterr().err.startswith("admin-fairseq: error: ")
    assert cli.main(["profile", str(profile), "--plot", str(profile) + ".doc"]) == 1


def checkpoint(path, seed=1, dtype=torch.float32, **extra):
    torch.manual_seed(seed)
    model = {"a": torch.randn(3, 2).to(dtype), "layer.omega": torch.randn(2).to(dtype)}
    torch.save({"model": model, "last_optimizer_state": {}, "cfg": {"seed": seed}, **extra}, path)
    return model


def test_average_is_the_mean(tmp_path):
    models = [checkpoint(tmp_path / f"checkpoint{i}.pt", i) for i in range(1, 6)]
    out = tmp_path / "mean.pt"
    assert (
        cli.main(
            [
                "average",
                "--inputs",
                str(tmp_path),
                "--num-epoch-checkpoints",
                "3",
                "--output",
                str(out),
            ]
        )
        == 0
    )
    state = load_checkpoint(out)
    for name in ("a", "layer.omega"):
        expected = np.mean([model[name].double().numpy() for model in models[2:]], axis=0)
        np.testing.assert_allclose(state["model"][name], expected, rtol=1e-6)
        assert state["model"][name].dtype == torch.float32
    assert state["cfg"] == {"seed": 5} and "last_optimizer_state" not in state


def test_average_of_half_precision_is_float32(tmp_path):
    models = [checkpoint(tmp_path / f"{i}.pt", i, torch.float16) for i in (1, 2)]
    mean = average([tmp_path / "1.pt", tmp_path / "2.pt"])["model"]["a"]
    assert mean.dtype == torch.float32
    np.testing.assert_allclose(
        mean, (models[0]["a"].float() + models[1]["a"].float()) / 2, rtol=1e-6
    )


def test_average_finds_checkpoints_by_number_not_by_name(tmp_path):
    for name in (
        "checkpoint9.pt",
        "checkpoint10.pt",
        "checkpoint_1_900.pt",
        "checkpoint_2_1000.pt",
        "checkpoint_best.pt",
    ):
        (tmp_path / name).touch()

    def names(*which, **limits):
        return [path.rpartition("/")[2] for path in find_checkpoints(tmp_path, *which, **limits)]

    assert names(2) == ["checkpoint10.pt", "checkpoint9.pt"]
    assert names(2, by_updates=True) == ["checkpoint_2_1000.pt", "checkpoint_1_900.pt"]
    assert names(1, upper_bound=9) == ["checkpoint9.pt"]
    with pytest.raises(AdminError, match="3 epoch checkpoints asked for, 2 found"):
        names(3)


def fails(capsys, *arguments):
    assert cli.main([str(word) for word in arguments]) == 1
    message = capsys.readouterr().err
    assert "admin-fairseq: error: " in message
    return message


def test_average_errors(tmp_path, capsys):
    one, two, out = (tmp_path / name for name in ("1.pt", "2.pt", "out.pt"))
    checkpoint(one)
    torch.save({"model": {"a": torch.ones(2), "b": torch.ones(1)}}, two)
    message = fails(capsys, "average", "--inputs", one, two, "--output", out)
    assert (
        "a: (3, 2) and (2,)" in message
        and f"only in {two}: b" in message
        and "layer.omega" in message
    )
    assert not out.exists()

    before = one.read_bytes()
    assert "would be overwritten" in fails(capsys, "average", "--inputs", one, "--output", one)
    two.write_bytes(before[: len(before) // 2])
    assert "cannot be read as a checkpoint" in fails(
        capsys, "average", "--inputs", one, two, "--output", out
    )
    two.write_text("# a text")
    assert "cannot be read as a checkpoint" in fails(
        capsys, "average", "--inputs", two, "--output", out
    )
    torch.save({"model": {}, "call": subprocess.Popen}, two)
    assert "Popen, which is not loaded" in fails(
        capsys, "average", "--inputs", two, "--output", out
    )
    torch.save({"weights": 1}, two)
    assert "no 'model'" in fails(capsys, "average", "--inputs", two, "--output", out)
    assert "no such checkpoint" in fails(
        capsys, "average", "--inputs", tmp_path / "none.pt", "--output", out
    )
    assert "a folder" in fails(capsys, "average", "--inputs", tmp_path, "--output", out)
    assert "folder does not exist" in fails(
        capsys, "average", "--inputs", one, "--output", tmp_path / "no" / "out.pt"
    )
    assert one.read_bytes() == before and not out.exists()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["1.pt", "2.pt"]


def test_average_on_a_full_disk_keeps_the_old_output(tmp_path, capsys, monkeypatch):
    one, out = tmp_path / "1.pt", tmp_path / "out.pt"
    checkpoint(one)
    out.write_text("old")
    monkeypatch.setattr(
        "os.fsync", lambda _: (_ for _ in ()).throw(OSError(28, "No space left on device"))
    )
    assert "No space left" in fails(capsys, "average", "--inputs", one, "--output", out)
    assert out.read_text() == "old" and sorted(p.name for p in tmp_path.iterdir()) == [
        "1.pt",
        "out.pt",
    ]


def test_the_installed_command():
    assert run("admin-fairseq", "--version").stdout.startswith("admin_fairseq ")
    assert run("admin-fairseq", check=False).returncode == 2
