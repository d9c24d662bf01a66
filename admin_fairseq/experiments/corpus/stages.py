"""Stages that restart: done only if the output is whole, of the same input, made with the same settings.

A stage writes ``NAME.part`` files, renames them when all are whole, and then writes its record (``stages/STAGE.json``):
settings, sha256 of inputs and outputs, line counts, and size and time of the outputs. It is done if the record says
what is wanted now and the outputs still have their size and time; what it made is made again otherwise. Because
inputs count by content, a stage that makes the same again makes nothing after it run.
"""

import errno
import fcntl
import hashlib
import json
import logging
import os
import shutil
import time
from pathlib import Path

from ...errors import AdminError

log = logging.getLogger(__name__)


class Output:
    """A text file being written as ``path.part``: counts and hashes lines."""

    def __init__(self, path):
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path, self.part = path, Path(f"{path}.part")
        self.file = open(self.part, "wb", buffering=1 << 20)
        self.digest, self.lines = hashlib.sha256(), 0

    def write(self, text):
        """Write whole lines, each with its line feed."""
        data = text.encode("utf-8")
        self.file.write(data)
        self.digest.update(data)
        self.lines += data.count(b"\n")

    def line(self, text):
        self.write(text + "\n")

    def close(self):
        self.file.flush()
        os.fsync(self.file.fileno())
        self.file.close()


class Stages:
    """The stages of one folder, which no other process may work in meanwhile."""

    def __init__(self, folder):
        self.folder = Path(folder)
        self.records = self.folder / "stages"
        self.records.mkdir(parents=True, exist_ok=True)
        self.identities = {}  # path (relative) -> {"sha256":, "lines":} of what stages of this run have or made
        self.lock = open(self.folder / "lock", "w")
        try:
            fcntl.flock(self.lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise AdminError(
                f"{folder} is in use by another run: wait for it, or name another --dest"
            ) from None

    def lines(self, path):
        """Return the number of lines of an output."""
        return self.identities[path]["lines"]

    def run(self, name, inputs, outputs, settings, make):
        """Make text files unless they are made. ``make`` gets one :class:`Output` each, in their order.

        Returns True if it ran.
        """
        wanted = self._wanted(inputs, settings)
        if self._done(name, wanted, outputs):
            return False
        started = time.monotonic()
        files = [Output(self.folder / path) for path in outputs]
        try:
            make(*files)
            for file in files:
                file.close()
        except BaseException:
            for file in files:
                try:
                    file.file.close()
                except OSError:
                    pass  # the buffer of a full disk
                file.part.unlink()
            raise
        for file in files:
            os.replace(file.part, file.path)
        identities = {
            path: {"sha256": file.digest.hexdigest(), "lines": file.lines}
            for path, file in zip(outputs, files)
        }
        self._record(name, wanted, identities, time.monotonic() - started)
        return True

    def run_folder(self, name, inputs, output, settings, make):
        """As :meth:`run`, for a stage that makes a folder: ``make`` gets the path to fill."""
        wanted = self._wanted(inputs, settings)
        if self._done(name, wanted, [output]):
            return False
        started = time.monotonic()
        path, part = self.folder / output, self.folder / f"{output}.part"
        shutil.rmtree(part, ignore_errors=True)
        make(part)
        if path.exists():
            shutil.rmtree(path)
        os.replace(part, path)
        self._record(
            name, wanted, {output: {"sha256": None, "lines": None}}, time.monotonic() - started
        )
        return True

    def adopt(self, name, path, settings, check):
        """Return the sha256 of a file that stages did not make; ``check(path)`` is run when it is new or was changed."""
        key = f"file:{path}"
        wanted = json.loads(json.dumps({"settings": settings, "inputs": {}}))
        record = self._read(name)
        if (
            record
            and record["wanted"] == wanted
            and record["outputs"].get(str(path), {}).get("state") == _state(path)
        ):
            self.identities[key] = record["outputs"][str(path)]
        else:
            digest = check(path)
            self.identities[key] = {"sha256": digest, "lines": None, "state": _state(path)}
            self._write(name, {"wanted": wanted, "outputs": {str(path): self.identities[key]}})
        return key

    def _wanted(self, inputs, settings):
        wanted = {
            "settings": settings,
            "inputs": {path: self.identities[path]["sha256"] for path in inputs},
        }
        return json.loads(json.dumps(wanted))  # as it is read back: tuples are lists

    def _done(self, name, wanted, outputs):
        record = self._read(name)
        if not record or record["wanted"] != wanted or sorted(record["outputs"]) != sorted(outputs):
            return False
        if any(record["outputs"][path]["state"] != _state(self.folder / path) for path in outputs):
            return False
        self.identities.update({path: record["outputs"][path] for path in outputs})
        return True

    def _record(self, name, wanted, identities, seconds):
        for path, identity in identities.items():
            identity["state"] = _state(self.folder / path)
        self.identities.update(identities)
        self._write(name, {"wanted": wanted, "outputs": identities, "seconds": round(seconds, 2)})

    def _read(self, name):
        try:
            return json.loads((self.records / f"{name}.json").read_text(encoding="utf-8"))
        except (FileNotFoundError, ValueError):
            return None

    def _write(self, name, record):
        path = self.records / f"{name}.json"
        part = Path(f"{path}.part")
        part.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
        os.replace(part, path)


def _state(path):
    """Return size and time of a file, or of every file of a folder; None where there is none."""
    path = Path(path)
    if path.is_dir():
        return {found.name: _state(found) for found in sorted(path.iterdir())}
    try:
        status = path.stat()
    except FileNotFoundError:
        return None
    return [status.st_size, status.st_mtime_ns]


def check_disk(folder, gigabytes):
    """Refuse to begin where the disk has less room than a corpus takes; what is in ``folder`` already counts."""
    used = sum(path.stat().st_size for path in Path(folder).rglob("*") if path.is_file())
    free = shutil.disk_usage(folder).free
    if free + used < gigabytes * 1e9:
        raise AdminError(
            f"--dest {folder}: about {gigabytes:g} GB are needed in all, {used / 1e9:.3g} GB are there and "
            f"{free / 1e9:.3g} GB are free. Name another --dest, or --no-disk-check if you know better"
        )


def explain_os_error(error, folder):
    """Return a :class:`AdminError` for an error of the operating system."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return AdminError(
            f"the disk of {folder} is full. Make room and start again: this goes on where it stopped"
        )
    where = f": {error.filename}" if error.filename else ""
    return AdminError(f"{error.strerror or error}{where}")
