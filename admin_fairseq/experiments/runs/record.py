"""A run's own files: run.json (what it is), sessions.tsv (when it trained), outcome.json (how it
ended).
"""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...errors import AdminError
from ...files import replacing
from ...logs import Curve, Record, curve_of, read_log

Outcome = dict[str, Any]


def write_json(path: Path, facts: dict[str, Any]) -> None:
    """Write facts to a file, whole or not at all."""
    with replacing(path) as file:
        file.write((json.dumps(facts, indent=1) + "\n").encode())


def load_run(folder: str | Path) -> dict[str, Any]:
    """Return what run.json says of a run; an empty dict if it is missing or cannot be read."""
    try:
        found: dict[str, Any] = json.loads((Path(folder) / "run.json").read_text())
    except (OSError, ValueError):
        return {}
    return found


def save_outcome(folder: str | Path, outcome: Outcome) -> None:
    """Write a run's outcome: a ``state``, ``done`` or ``diverged``, with update and reason."""
    write_json(Path(folder) / "outcome.json", outcome)


def load_outcome(folder: str | Path) -> Outcome:
    """Return a run's outcome; an empty dict as long as it has none.

    Raises:
        AdminError: if it is damaged.
    """
    path = Path(folder) / "outcome.json"
    try:
        found = json.loads(path.read_text())
        return {**found, "state": found["state"], "update": found["update"]}
    except FileNotFoundError:
        return {}
    except (ValueError, KeyError, TypeError):
        raise AdminError(
            f"{path} is damaged; remove it, and admin-fairseq train judges the run anew"
        ) from None


@dataclass(frozen=True)
class Log:
    """What a run's train.log says: the records of training and validation."""

    train: list[Record]
    valid: list[Record]

    @property
    def last_update(self) -> int:
        """The last update that it names, or 0."""
        updates = [record["num_updates"] for record in (self.train[-1:] + self.valid[-1:])]
        return max(updates, default=0)

    @property
    def curve(self) -> Curve:
        """The validation curve."""
        return curve_of(self.valid)


def load_log(folder: str | Path) -> Log:
    """Return what a run's train.log says; nothing as long as it has none."""
    return Log(*read_log(Path(folder) / "train.log"))


def flag_of(words: list[str], name: str) -> str | None:
    """Return the value that counts of a flag in a command: its last; None if it is not there."""
    value = None
    for at, word in enumerate(words):
        if word == name and at + 1 < len(words):
            value = words[at + 1]
        elif word.startswith(name + "="):
            value = word.split("=", 1)[1]
    return value


@contextlib.contextmanager
def session(folder: str | Path) -> Iterator[None]:
    """Note in sessions.tsv when a training began and ended, in seconds since 1970.

    A killed one ended when its log did, or, if it was killed before it wrote a line, at its start.
    """
    path = Path(folder) / "sessions.tsv"
    log = Path(folder) / "train.log"
    text = path.read_text() if path.exists() else ""
    if text and not text.endswith("\n"):
        begun = _seconds(text.splitlines()[-1])
        written = log.stat().st_mtime if log.exists() else begun
        _append(path, f"{max(begun, written):.0f}\n")
    _append(path, f"{time.time():.0f}\t")
    try:
        yield
    finally:
        _append(path, f"{time.time():.0f}\n")


def _append(path: Path, text: str) -> None:
    with open(path, "a") as file:
        file.write(text)


def _seconds(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return 0.0


def wall_clock(folder: str | Path) -> int | None:
    """Return the seconds that a run was trained, over all its sessions; None if it has none."""
    try:
        lines = (Path(folder) / "sessions.tsv").read_text().splitlines()
    except FileNotFoundError:
        return None
    seconds = 0
    for line in lines:
        begun, tab, ended = line.partition("\t")
        if tab and begun and ended:
            # a clock may have been set back meanwhile
            seconds += max(0, int(ended) - int(begun))
    return seconds
