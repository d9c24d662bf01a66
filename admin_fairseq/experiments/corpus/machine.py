"""What a machine may lack: room on its disk, Python packages."""

import errno
import shutil
from pathlib import Path
from typing import Optional

from ...errors import AdminError


def missing_package(error: ModuleNotFoundError) -> AdminError:
    """Return an :class:`AdminError` for a package that cannot be imported."""
    package = str(error.name).partition(".")[0]
    return AdminError(f"{package} is not installed: pip install 'admin_fairseq[recipes]'")


def check_disk(folder: Path, gigabytes: float) -> None:
    """Refuse to begin where the disk has less room than a corpus takes.

    What is in ``folder`` already counts as room. It need not exist yet.

    Raises:
        AdminError: if the disk is too small.
    """
    used = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    there = folder.absolute()
    while not there.exists():
        there = there.parent
    free = shutil.disk_usage(there).free
    if free + used < gigabytes * 1e9:
        raise AdminError(
            f"--dest {folder}: about {gigabytes:g} GB are needed in all; {used / 1e9:.3g} GB are "
            f"used already and {free / 1e9:.3g} GB are free. Name another --dest, or pass "
            "--no-disk-check if you know better"
        )


def explain_os_error(error: OSError, folder: Optional[Path]) -> AdminError:
    """Return an :class:`AdminError` for an error of the operating system."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return AdminError(
            f"the disk of {folder} is full. Make room and start again: it goes on where it stopped"
        )
    where = f": {error.filename}" if error.filename else ""
    return AdminError(f"{error.strerror or error}{where}")
