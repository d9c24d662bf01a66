"""files.locked: the lock that runs, preparations and results share."""

import errno
import fcntl

import pytest

from admin_fairseq import files
from admin_fairseq.errors import AdminError


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
