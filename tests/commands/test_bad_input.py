"""Mistakes, through the real command: a clear message, exit code 1, no traceback, nothing lost."""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest

from admin_fairseq.profile import file as profile_file
from tests.helpers import train

pytestmark = pytest.mark.subprocess


@pytest.fixture(scope="module")
def profile(data_bin, tmp_path_factory):
    path = tmp_path_factory.mktemp("profile") / "admin.profile"
    train(
        data_bin, path.parent / "run", "--init-type", "adaptive-profiling", "--admin-profile", path
    )
    return path


def refused(data_bin, save_dir, *flags):
    result = train(data_bin, save_dir, *flags, check=False)
    assert result.returncode == 1, result.stdout[-2000:]
    assert "Traceback" not in result.stdout
    assert result.stdout.count("admin_fairseq: error: ") == 1
    return result.stdout[result.stdout.index("admin_fairseq: error: ") :]


def test_no_profile(data_bin, tmp_path):
    message = refused(data_bin, tmp_path, "--init-type", "adaptive")
    assert f"{tmp_path}/admin.profile: no such profile" in message
    assert "--init-type adaptive-profiling" in message
    assert list(tmp_path.iterdir()) == []


def test_the_suggested_command_works(data_bin, tmp_path):
    message = refused(data_bin, tmp_path, "--init-type", "adaptive", "--encoder-layerdrop", "0.2")
    command = message.strip().splitlines()[-2].strip()
    tool = str(sys.executable).rpartition("/")[0] + "/"
    subprocess.run(
        tool + command, shell=True, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    assert len(profile_file.load(tmp_path / "admin.profile").sites) == 10


def test_wrong_depth(data_bin, tmp_path, profile):
    message = refused(
        data_bin,
        tmp_path,
        "--init-type",
        "adaptive",
        "--admin-profile",
        profile,
        "--encoder-layers",
        "3",
    )
    assert str(profile) in message
    assert f"--admin-profile {profile}.new" in message, (
        "it may be the profile of another model: it is kept"
    )
    for site in ("self_attn_residual", "ffn_residual"):
        assert f"in the model but not in the profile: encoder.layers.2.{site}" in message


def test_other_dimensions(data_bin, tmp_path, profile):
    """The same depth, so the same sites: what the profile says of its model tells them apart."""
    flags = ["--encoder-ffn-embed-dim", "48", "--activation-fn", "gelu"]
    message = refused(
        data_bin, tmp_path, "--init-type", "adaptive", "--admin-profile", profile, *flags
    )
    assert "ffn embed dim: 32-32 in the profile, 48-48 in the model" in message
    assert "activation: relu in the profile, gelu in the model" in message


def test_a_profile_that_cannot_be_written(data_bin, tmp_path):
    (tmp_path / "file").touch()
    flags = ["--init-type", "adaptive-profiling", "--admin-profile", tmp_path / "file" / "p"]
    assert f"--admin-profile {tmp_path}/file/p: the profile cannot be written" in refused(
        data_bin, tmp_path, *flags
    )
    assert [path.name for path in tmp_path.iterdir()] == ["file"], (
        "no crash.pt of a model that was never trained"
    )


def test_truncated_profile(data_bin, tmp_path, profile):
    part = tmp_path / "part"
    part.write_text(profile.read_text()[:-40])
    message = refused(
        data_bin, tmp_path / "run", "--init-type", "adaptive", "--admin-profile", part
    )
    assert str(part) in message and "cut short" in message


def test_something_else_as_profile(data_bin, tmp_path):
    message = refused(
        data_bin, tmp_path, "--init-type", "adaptive", "--admin-profile", data_bin / "dict.en.txt"
    )
    assert "dict.en.txt" in message and "not a profile" in message


def test_profiling_into_a_directory_with_a_checkpoint(data_bin, tmp_path):
    train(data_bin, tmp_path, "--init-type", "default", "--max-update", "1")
    before = (tmp_path / "checkpoint_last.pt").read_bytes()
    message = refused(data_bin, tmp_path, "--init-type", "adaptive-profiling")
    assert "checkpoint_last.pt" in message and "--save-dir" in message
    assert (tmp_path / "checkpoint_last.pt").read_bytes() == before
    (tmp_path / "checkpoint_last.pt").unlink()
    assert "checkpoint_best.pt" in refused(data_bin, tmp_path, "--init-type", "adaptive-profiling")
    assert not (tmp_path / "admin.profile").exists()


def test_normalize_before_and_layerdrop(data_bin, tmp_path):
    flags = ["--encoder-normalize-before", "--encoder-layerdrop", "0.1"]
    message = refused(data_bin, tmp_path, "--init-type", "adaptive-profiling", *flags)
    assert "--encoder-normalize-before" in message and "--encoder-layerdrop" in message


def test_two_processes_profiling_at_once(data_bin, tmp_path):
    """One file, whole: whichever was last."""
    path = tmp_path / "admin.profile"

    def profile(seed):
        train(
            data_bin,
            tmp_path / seed,
            "--init-type",
            "adaptive-profiling",
            "--admin-profile",
            path,
            "--seed",
            seed,
        )

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(profile, ["1", "2"]))
    assert profile_file.load(path).provenance["seed"] in ("1", "2")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["1", "2", "admin.profile"]


def test_the_profile_of_another_init_type_is_not_silently_ignored(data_bin, tmp_path, profile):
    """A checkpoint of plain Post-LN does not become Admin by resuming it."""
    train(data_bin, tmp_path, "--init-type", "default", "--max-update", "1")
    result = train(
        data_bin, tmp_path, "--init-type", "adaptive", "--admin-profile", profile, check=False
    )
    assert result.returncode == 1
    assert "the checkpoint was trained with --init-type default" in result.stdout
    assert "Traceback" not in result.stdout
