"""A training's log, read while it is written."""

from __future__ import annotations

import contextlib
import logging
import subprocess
from pathlib import Path

from ...logs import TRAINING, Record, records_in
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
    subset = ""
    while True:
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(POLL)
        text = text_since(log, begun)
        if process.returncode is None:
            text = text[: text.rfind("\n") + 1]  # the last line may be half written
        records = list(records_in(text.split("\n")))
        bad = outcome.first_non_finite([record for kind, record in records if kind == TRAINING])
        for kind, _ in records:
            # of several validation sets the first counts
            subset = subset or (kind if kind != TRAINING else "")
        validations = [record for kind, record in records if kind == subset]
        shown = _show_validation(log.parent, validations, shown)
        begun = max(begun, log.stat().st_size - _AGAIN)
        if bad is not None or process.returncode is not None:
            return bad


def text_since(log: Path, begun: int) -> str:
    """Return what was written to a log after its first ``begun`` bytes."""
    with open(log, "rb") as file:
        file.seek(begun)
        return file.read().decode(errors="replace")


def _show_validation(folder: Path, validations: list[Record], shown: int) -> int:
    """Log the last validation, unless that is done; return its update.

    Args:
        folder: of the run.
        validations: their records, in the order of the log.
        shown: the update of the validation that was logged last.
    """
    for record in validations[-1:]:
        if record["num_updates"] > shown:
            shown = record["num_updates"]
            # a criterion of one's own may have none
            perplexity = record.get("ppl", "unknown")
            text = f"{perplexity:.2f}" if isinstance(perplexity, (int, float)) else perplexity
            logger.info("%s: update %d, perplexity %s", folder.name, shown, text)
    return shown
