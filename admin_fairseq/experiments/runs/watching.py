"""A training's log, read while it is written."""

from __future__ import annotations

import contextlib
import json
import subprocess
from pathlib import Path
from typing import Any

from . import outcome

POLL = 2  # seconds between two looks at the log
_AGAIN = 65536  # bytes that are read again: a line may have been half written


def wait_and_watch(process: subprocess.Popen, log: Path, begun: int) -> int | None:
    """Wait for a training; return the update at which its log shows a non-finite loss.

    None if the training ended without; it goes on otherwise.

    Args:
        process: the training.
        log: its log.
        begun: the size of the log when the training was started, in bytes.
    """
    while True:
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(POLL)
        bad = outcome.first_non_finite(_records(text_since(log, begun)))
        begun = max(begun, log.stat().st_size - _AGAIN)
        if bad is not None or process.returncode is not None:
            return bad


def text_since(log: Path, begun: int) -> str:
    """Return what was written to a log after its first ``begun`` bytes."""
    with open(log, "rb") as file:
        file.seek(begun)
        return file.read().decode(errors="replace")


def _records(text: str) -> list[dict[str, Any]]:
    """Return the training records of a log's text that were written to their end."""
    records = []
    for line in text.splitlines():
        found = line.partition(" | train_inner | ")[2]
        if found.startswith("{") and found.endswith("}"):
            record = json.loads(found)
            update = int(record["num_updates"])
            records.append({"loss": record.get("loss", 0), "num_updates": update})
    return records
