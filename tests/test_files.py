"""Locks that runs, preparations and results share; and what is never replaced by an output."""

import errno
import fcntl
import os
import threading
import zipfile

import pytest
import torch

from admin_fairseq import cli, files
from admin_fairseq.checkpoints import check_output, save_checkpoint
from admin_fairseq.checkpoints.average import average_to_file
from admin_fairseq.compat import copy_whole_files
from admin_fairseq.errors import AdminError
from admin_fairseq.plots import new_figure, write_figure
from admin_fairseq.profile import file as profile_file
from tests.profiles import made_up


def test_a_lock_that_is_held_is_refused_or_waited_for(tmp_path):
    path = tmp_path / "new" / "lock"
    with files.locked(path):
        with pytest.raises(AdminError, match="in use by another process"), files.locked(path, 0):
            pass
        with (
            pytest.raises(AdminError, match="^lock: mine$"),
            files.locked(path, 0.3, lambda held: f"{held.name}: mine"),
        ):
            pass
    with files.locked(path, wait=0) as file:
        assert file.fileno() > 0


def test_a_file_system_without_locks_does_not_read_as_in_use(tmp_path, monkeypatch):
    def no_locks(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", no_locks)
    with files.locked(tmp_path / "lock", wait=0), open(tmp_path / "lock") as file:
        assert not files.lock(file)


class Reader(threading.Thread):
    """Somebody who reads a pipe to its end."""

    def __init__(self, path):
        super().__init__(daemon=True)
        os.mkfifo(path)
        self.handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK)  # else it waits for a writer
        os.set_blocking(self.handle, True)
        self.content = b""

    def run(self):
        with os.fdopen(self.handle, "rb") as file:
            self.content = file.read()


def written_into_pipe(path, write):
    """Return what ``write`` wrote into a pipe, which is a pipe still."""
    reader = Reader(path)
    before = os.lstat(path)
    keeps_open = os.open(path, os.O_WRONLY)  # or the reader would end before the writer begins
    reader.start()
    write()
    os.close(keeps_open)
    reader.join(30)
    after = os.lstat(path)
    assert (before.st_ino, before.st_mode) == (after.st_ino, after.st_mode)
    return reader.content


def replace(path, content=b"new"):
    with files.replacing(path) as file:
        file.write(content)


def test_a_pipe_is_written_into(tmp_path):
    pipe = tmp_path / "pipe"
    assert written_into_pipe(pipe, lambda: replace(pipe)) == b"new"
    (tmp_path / "link").symlink_to(pipe)
    pipe.unlink()
    assert written_into_pipe(pipe, lambda: replace(tmp_path / "link")) == b"new"
    assert sorted(os.listdir(tmp_path)) == ["link", "pipe"]


def test_a_pipe_that_nobody_reads_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(OSError, match="nobody reads"):
        replace(tmp_path / "pipe")
    assert os.listdir(tmp_path) == ["pipe"]


def test_a_device_is_written_into(tmp_path, monkeypatch):
    """A file stands for it that looks like a device."""
    device = tmp_path / "device"
    device.write_bytes(b"old content")
    before = device.stat().st_ino
    isfile = os.path.isfile
    monkeypatch.setattr(os.path, "isfile", lambda path: path != device and isfile(path))
    replace(device)
    assert device.stat().st_ino == before and device.read_bytes() == b"new content"


def test_an_open_file_is_continued(tmp_path, monkeypatch):
    """As ``--out /dev/stdout >> log``: what is in the log stays, and what follows comes after."""
    log = tmp_path / "log"
    log.write_bytes(b"earlier\n")
    with open(log, "ab", buffering=0) as stream:
        monkeypatch.setitem(files._STREAMS, str(tmp_path / "stdout"), stream.fileno())
        (tmp_path / "link").symlink_to("stdout")
        for name in ("stdout", "link"):
            replace(tmp_path / name)
        stream.write(b" later")
    assert log.read_bytes() == b"earlier\nnewnew later"
    assert files._descriptor("/dev/fd/7") == files._descriptor("/proc/self/fd/7") == 7
    assert files._descriptor(log) is None


def test_links_are_followed(tmp_path):
    (tmp_path / "folder").mkdir()
    for name in ("there", "not there yet"):
        target = tmp_path / "folder" / name
        link = tmp_path / f"link to {name}"
        link.symlink_to(target)
        if name == "there":
            target.write_text("old")
        replace(link)
        assert link.is_symlink() and target.read_bytes() == b"new"
    assert sorted(os.listdir(tmp_path / "folder")) == ["not there yet", "there"]


def test_what_cannot_be_written_is_refused(tmp_path):
    (tmp_path / "a").symlink_to(tmp_path / "b")
    (tmp_path / "b").symlink_to(tmp_path / "a")
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "folder")
    for name, reason in (("folder", "directory"), ("link", "directory"), ("a", "symbolic links")):
        with pytest.raises(OSError, match=reason):
            replace(tmp_path / name)
    assert sorted(os.listdir(tmp_path)) == ["a", "b", "folder", "link"]
    assert not os.listdir(tmp_path / "folder")


def test_every_output_goes_into_a_pipe(tmp_path):
    """Profiles, checkpoints and figures; a name without ending gets none."""
    pipe = tmp_path / "pipe"
    text = written_into_pipe(pipe, lambda: profile_file.save(made_up(), pipe))
    assert profile_file.may_replace(pipe)
    (tmp_path / "copy").write_bytes(text)
    assert profile_file.load(tmp_path / "copy").omega == made_up().omega

    pipe.unlink()
    state = {"model": {"a": torch.arange(100_000)}}
    content = written_into_pipe(pipe, lambda: save_checkpoint(state, str(pipe)))
    (tmp_path / "copy").write_bytes(content)
    assert zipfile.is_zipfile(tmp_path / "copy")
    assert torch.load(tmp_path / "copy")["model"]["a"].equal(state["model"]["a"])

    pipe.unlink()
    figure, _ = new_figure(1, 1, width=4, height=3)
    picture = written_into_pipe(pipe, lambda: write_figure(figure, pipe))
    assert picture.startswith(b"\x89PNG")
    assert sorted(os.listdir(tmp_path)) == ["copy", "pipe"]


def test_checks_before_the_work_let_a_pipe_pass(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    check_output(str(tmp_path / "pipe"), [], force=False)
    for force in (False, True):
        with pytest.raises(AdminError, match="a device or a pipe"):
            check_output(str(tmp_path / "pipe"), [], force, kind="folder")


def test_a_prefix_is_no_pipe(tmp_path, capsys):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "log").touch()
    words = ["analyze", "trace", tmp_path / "log", "--out", tmp_path / "pipe"]
    assert cli.main([str(word) for word in words]) == 1
    assert f"--out {tmp_path / 'pipe'}: is a device or a pipe" in capsys.readouterr().err
    assert sorted(os.listdir(tmp_path)) == ["log", "pipe"]


def test_checkpoint_last_may_be_a_link(tmp_path):
    from fairseq.file_io import PathManager

    copy_whole_files()
    (tmp_path / "new").write_text("new")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "last").symlink_to(tmp_path / "elsewhere" / "last")
    assert PathManager.copy(str(tmp_path / "new"), str(tmp_path / "last"), overwrite=True)
    assert (tmp_path / "last").is_symlink()
    assert os.listdir(tmp_path / "elsewhere") == ["last"]


def test_a_folder_is_refused_before_the_work(tmp_path):
    """None of the inputs is there, and the folder is what the message is about."""
    (tmp_path / "file").touch()
    for force in (False, True):
        with pytest.raises(AdminError, match="is a folder, which is not replaced; name a file"):
            check_output(str(tmp_path), ["none.pt"], force)
        with pytest.raises(AdminError, match="is a file, which is not replaced; name a folder"):
            check_output(str(tmp_path / "file"), ["none.pt"], force, kind="folder")
    with pytest.raises(AdminError, match="--output .*: is a folder; name a file"):
        average_to_file(["none.pt"], str(tmp_path))
