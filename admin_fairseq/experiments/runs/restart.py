"""Checkpoints that a killed training left behind."""

import logging
import os
import shutil
import zipfile
from pathlib import Path
from typing import Optional

from ...files import replacing

logger = logging.getLogger(__name__)


def is_whole(path: Path) -> bool:
    """Whether a checkpoint was written to its end: a zip file whose check sums are right."""
    try:
        with zipfile.ZipFile(path) as file:
            return file.testzip() is None
    except (OSError, zipfile.BadZipFile, EOFError):
        return False


def restore_last(folder: Path) -> None:
    """Make checkpoint_last.pt the newest whole checkpoint.

    fairseq writes an epoch's checkpoint with care, and then copies it to checkpoint_last.pt and
    checkpoint_best.pt without: killed meanwhile, it leaves a part there, and does not start again.
    """
    last = folder / "checkpoint_last.pt"
    newest = _newest_whole(folder)
    if newest is None and list(folder.glob("checkpoint*.pt")):
        logger.warning("%s: no checkpoint is whole; training starts anew", folder)
    if newest is not None and newest != last:
        logger.warning("%s: going on from %s", folder, newest.name)
        with replacing(last) as target, open(newest, "rb") as source:
            shutil.copyfileobj(source, target)
    for path in (last, folder / "checkpoint_best.pt"):
        if path.exists() and not is_whole(path):
            logger.warning("%s is half-written: removed", path)
            path.unlink()


def _newest_whole(folder: Path) -> Optional[Path]:
    candidates = sorted(folder.glob("checkpoint*.pt"), key=os.path.getmtime, reverse=True)
    for path in candidates:
        if is_whole(path):
            return path
    return None
