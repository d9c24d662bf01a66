"""Is a checkpoint's file what was written? torch reads damaged ones without a word.

Its archives are zip files and hold a CRC-32 of every part, which ``torch.load`` does not compare:
of 194 damaged files that it took for sound ones with other weights, 178 fail here. SECURITY.md has
what it costs.
"""

import logging
import stat
import zipfile
from pathlib import Path

from ..errors import AdminError
from ..weights import Weights, non_finite

logger = logging.getLogger(__name__)
_DOS_FOLDER = 0x10  # an attribute of MS-DOS's, in zip files of today
_ZIP = b"PK\x03\x04"


def check_file(path: str) -> None:
    """Refuse what is not a regular file, and archives that are damaged.

    A pipe or a device would be read for ever.

    Raises:
        AdminError: naming the file, and the part that is damaged.
    """
    unreadable = f"{path}: cannot be read as a checkpoint"
    try:
        mode = Path(path).stat().st_mode
        if stat.S_ISDIR(mode):
            raise AdminError(f"{unreadable}: it is a folder; name a checkpoint in it")
        if not stat.S_ISREG(mode):
            raise AdminError(f"{unreadable}: it is a pipe or a device, not a file")
        with open(path, "rb") as file:
            start = file.read(len(_ZIP))
    except FileNotFoundError:
        raise AdminError(f"{path}: no such checkpoint") from None
    except (OSError, ValueError) as error:  # ValueError: a path with a zero byte
        reason = getattr(error, "strerror", None) or error
        raise AdminError(f"{path}: cannot be read: {reason}") from None
    # torch's older format is a bare pickle, which has no checksums
    if start == _ZIP:
        _check_archive(path)
    elif start:
        logger.info(
            "%s: in the format of torch before 1.6, without checksums: damage cannot be detected",
            path,
        )


def check_finite(weights: Weights, path: str) -> None:
    """Refuse weights that hold NaN or infinity.

    Raises:
        AdminError: naming the file and the first such weight.
    """
    unsound = non_finite(weights)
    if unsound:
        more = f", and {len(unsound) - 1} more weights" if len(unsound) > 1 else ""
        raise AdminError(
            f"{path}: {unsound[0]} holds NaN or infinity{more}: the training diverged, or the file "
            "is damaged; take an earlier checkpoint (admin-fairseq analyze stability says more)"
        )


def _check_archive(path: str) -> None:
    """Compare the checksum of every part of a torch archive.

    Raises:
        AdminError: naming the file and the first part that differs.
    """
    damaged = f"{path}: cannot be read as a checkpoint: it is truncated or damaged"
    way_out = "take another checkpoint, or a copy of this one"
    try:
        with zipfile.ZipFile(path) as archive:
            parts = archive.infolist()
            # zipfile tests parts by name, and so the last of them twice; torch may read another
            if len({part.filename for part in parts}) < len(parts):
                raise AdminError(f"{damaged}: two of its parts have the same name; {way_out}")
            if not all(map(_is_as_torch_writes, parts)):
                raise AdminError(
                    f"{damaged}: it has parts of a kind that torch does not write; {way_out}"
                )
            # torch writes zeros after set_crc32_options(False): that is no damage
            if all(part.CRC == 0 for part in parts if part.file_size):
                logger.info("%s: written without checksums: damage cannot be detected", path)
                return
            bad = archive.testzip()
    except AdminError:
        raise
    except Exception as error:  # zipfile raises half a dozen kinds for what it cannot read
        raise AdminError(f"{damaged} ({error}); {way_out}") from None
    if bad is not None:
        raise AdminError(f"{damaged}: the checksum of its part {bad!r} differs; {way_out}")


def _is_as_torch_writes(part: zipfile.ZipInfo) -> bool:
    """Whether a part is stored uncompressed, and not a folder: of one torch reads stray memory."""
    is_folder = part.is_dir() or bool(part.external_attr & _DOS_FOLDER)
    is_stored = part.compress_type == zipfile.ZIP_STORED and part.compress_size == part.file_size
    return is_stored and not is_folder
