"""Stages that restart: done only if the output is whole, of the same input, with the same settings.

A stage writes temporary files, which get their names when all are whole, and then its record
(``stages/STAGE.json``): settings, sha256 of inputs and outputs, line counts, and size and time of
the outputs. It is done if the record says what is wanted now and the outputs still have their size
and time; what it made is made again otherwise. Because inputs count by content, a stage that makes
the same again makes nothing after it run.
"""

import contextlib
import hashlib
import json
import logging
import os
import shutil
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, BinaryIO, Optional, Union

from ...files import StrPath, replacing

log = logging.getLogger(__name__)
_TOGETHER = 1000  # lines
Identity = dict[str, Any]  # "sha256", "lines", "state" of a file


class _Clock:
    """What a stage takes, from now on."""

    def __init__(self) -> None:
        self._started = time.monotonic(), _cpu_seconds()

    def seconds(self) -> dict[str, float]:
        """Return seconds, and CPU seconds of this process and of those that it waited for."""
        wall, cpu = self._started
        passed = {"seconds": time.monotonic() - wall, "cpu_seconds": _cpu_seconds() - cpu}
        return {name: round(value, 2) for name, value in passed.items()}


def _cpu_seconds() -> float:
    times = os.times()
    return sum(times[:4])  # user and system, ours and our children's


class Output:
    """A text file being written: counts and hashes lines."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._digest = hashlib.sha256()
        self._lines = 0
        self._waiting: list[str] = []  # lines that are written together

    def write(self, text: str) -> None:
        """Write whole lines, each with its line feed."""
        self.flush()
        self._write(text)

    def line(self, text: str) -> None:
        """Write one line, given without its line feed."""
        self._waiting.append(text)
        if len(self._waiting) == _TOGETHER:
            self.flush()

    def flush(self) -> None:
        """Write what waits to be written."""
        if self._waiting:
            self._write("\n".join([*self._waiting, ""]))
            self._waiting.clear()

    def _write(self, text: str) -> None:
        data = text.encode("utf-8")
        self._file.write(data)
        self._digest.update(data)
        self._lines += data.count(b"\n")

    @property
    def lines(self) -> int:
        """How many were written."""
        self.flush()
        return self._lines

    @property
    def identity(self) -> Identity:
        """What is recorded of the file."""
        return {"sha256": self._digest.hexdigest(), "lines": self.lines}


class Stages:
    """The stages of one folder, whose lock the caller holds."""

    def __init__(self, folder: StrPath) -> None:
        self.folder = Path(folder)
        self._records = self.folder / "stages"
        # path, relative to the folder -> what stages of this run found or made there
        self._identities: dict[str, Identity] = {}

    def lines(self, path: str) -> int:
        """Return the number of lines of an output."""
        found: int = self._identities[path]["lines"]
        return found

    def sha256(self, path: str) -> str:
        """Return the checksum of an output."""
        found: str = self._identities[path]["sha256"]
        return found

    def run(
        self,
        name: str,
        inputs: Sequence[str],
        outputs: Sequence[str],
        settings: object,
        make: Callable[..., None],
    ) -> bool:
        """Make text files unless they are made; return whether they were made now.

        Args:
            name: of the stage, and its record.
            inputs: paths that earlier stages made, relative to the folder, or keys of ``adopt``.
            outputs: paths to make.
            settings: what else the outputs depend on; as JSON.
            make: gets one :class:`Output` for each path of ``outputs``, in their order.
        """
        wanted = self._wanted(inputs, settings)
        if self._done(name, wanted, outputs):
            return False
        started = _Clock()
        with contextlib.ExitStack() as stack:
            files = []
            for path in outputs:
                files.append(Output(stack.enter_context(replacing(self.folder / path))))
            make(*files)
            for file in files:
                file.flush()
        identities = {path: file.identity for path, file in zip(outputs, files)}
        self._record(name, wanted, identities, started)
        return True

    def run_folder(
        self,
        name: str,
        inputs: Sequence[str],
        output: str,
        settings: object,
        make: Callable[[Path], None],
    ) -> bool:
        """As :meth:`run`, for a stage that makes a folder: ``make`` gets the path to fill."""
        wanted = self._wanted(inputs, settings)
        if self._done(name, wanted, [output]):
            return False
        started = _Clock()
        path, part = self.folder / output, self.folder / f"{output}.part"
        shutil.rmtree(part, ignore_errors=True)
        make(part)
        if path.exists():
            shutil.rmtree(path)
        os.replace(part, path)
        identities: dict[str, Identity] = {output: {"sha256": None, "lines": None}}
        self._record(name, wanted, identities, started)
        return True

    def adopt(
        self, name: str, path: str, settings: object, check: Callable[[str], Optional[str]]
    ) -> str:
        """Take a file that no stage made as an input, and return its key.

        ``check(path)`` returns its sha256; it is called when the file is new or was changed.
        """
        key = f"file:{path}"
        wanted = _as_json({"settings": settings, "inputs": {}})
        state = _state(path)
        record = self._read(name)
        known = record["outputs"].get(path, {}) if record and record["wanted"] == wanted else {}
        if known.get("state") == state:
            self._identities[key] = known
        else:
            self._identities[key] = {"sha256": check(path), "lines": None, "state": state}
            self._write(name, {"wanted": wanted, "outputs": {path: self._identities[key]}})
        return key

    def _wanted(self, inputs: Sequence[str], settings: object) -> Any:
        digests = {path: self._identities[path]["sha256"] for path in inputs}
        return _as_json({"settings": settings, "inputs": digests})

    def _done(self, name: str, wanted: object, outputs: Sequence[str]) -> bool:
        record = self._read(name)
        if not record or record["wanted"] != wanted or sorted(record["outputs"]) != sorted(outputs):
            return False
        for path in outputs:
            if record["outputs"][path]["state"] != _state(self.folder / path):
                return False
        for path in outputs:
            self._identities[path] = record["outputs"][path]
        return True

    def _record(
        self, name: str, wanted: object, identities: dict[str, Identity], started: "_Clock"
    ) -> None:
        for path, identity in identities.items():
            identity["state"] = _state(self.folder / path)
        self._identities.update(identities)
        self._write(name, {"wanted": wanted, "outputs": identities, **started.seconds()})

    def _read(self, name: str) -> Any:
        try:
            return json.loads((self._records / f"{name}.json").read_text(encoding="utf-8"))
        except (FileNotFoundError, ValueError):
            return None

    def _write(self, name: str, record: object) -> None:
        with replacing(self._records / f"{name}.json") as file:
            file.write((json.dumps(record, indent=1) + "\n").encode("utf-8"))


def _as_json(value: object) -> Any:
    """Return a value as it is when it is read back: tuples are lists."""
    return json.loads(json.dumps(value))


def _state(path: Union[str, Path]) -> Any:
    """Return size and time of a file, or of every file of a folder; None if it does not exist."""
    path = Path(path)
    if path.is_dir():
        return {found.name: _state(found) for found in sorted(path.iterdir())}
    try:
        status = path.stat()
    except FileNotFoundError:
        return None
    return [status.st_size, status.st_mtime_ns]
