"""A training's log, read while it is written."""

from __future__ import annotations

import contextlib
import json
import logging
import subprocess
from pathlib import Path

from ...logs import Record
from . import outcome

logger = logging.getLogger(__name__)
POLL = 2  # seconds between two looks at the log
_AGAIN = 65536  # bytes that are read again: a line may have been half written


def wait_and_watch(process: subprocess.Popen, log: Path, begun: int) -> int | None:
    """Wait for a training; return the update at which its log shows a non-finite loss.

    None if the training ended without; it goes on otherwise. Each validation becomes a line of our
    own log.

    Args:
        process: the training.
        log: its log.
        begun: the size of the log when the training was started, in bytes.
    """
    shown = 0
    while True:
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(POLL)
        text = text_since(log, begun)
        bad = outcome.first_non_finite(_losses(text))
        shown = _show_validation(log.parent, text, shown)
        begun = max(begun, log.stat().st_size - _AGAIN)
        if bad is not None or process.returncode is not None:
            return bad


def text_since(log: Path, begun: int) -> str:
    """Return what was written to a log after its first ``begun`` bytes."""
    with open(log, "rb") as file:
        file.seek(begun)
        return file.read().decode(errors="replace")


def _losses(text: str) -> list[Record]:
    losses = []
    for record in _records(text, "train_inner"):
        update = int(record["num_updates"])
        losses.append({"loss": record.get("loss", 0), "num_updates": update})
    return losses


def _show_validation(folder: Path, text: str, shown: int) -> int:
    """Log the last validation in a log's text, unless that is done; return its update.

    Args:
        folder: of the run.
        text: a part of its log.
        shown: the update of the validation that was logged last.
    """
    for record in _records(text, "valid")[-1:]:
        update = int(record["valid_num_updates"])
        if update > shown:
            shown = update
            perplexity = float(record.get("valid_ppl", "nan"))
            logger.info("%s: update %d, perplexity %.2f", folder.name, update, perplexity)
    return shown


def _records(text: str, kind: str) -> list[Record]:
    """Return the records of a kind, train_inner or valid, that were written to their end."""
    records = []
    for line in text.splitlines():
        found = line.partition(f" | {kind} | ")[2]
        if found.startswith("{") and found.endswith("}"):
            records.append(json.loads(found))
    return records
