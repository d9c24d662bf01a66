"""Profile <-> file, written atomically.

The checksum of the text shows damage. Files of older releases have none: their numbers must obey
the recursion instead (``checks``). Whoever edits a file by hand renews its checksum.

The authors' ``profile.ratio.init`` is read too (``two_columns``).
"""

import logging
import os
import shlex
import stat
from typing import BinaryIO, Optional, Union

from .. import files
from ..errors import AdminError, first_of, raise_all
from . import checks
from .data import Profile
from .text import TITLE, format_profile, parse_profile, unwritable_names
from .two_columns import parse_two_columns

logger = logging.getLogger(__name__)

LARGEST = 4 * 2**20  # bytes; a profile of 1000-1000 has half a megabyte
Path = Union[str, os.PathLike[str]]


def save(profile: Profile, path: Path) -> None:
    """Write a profile atomically: readers see the old file or the new one, never a part.

    Raises:
        AdminError: if ``load`` would refuse its names or numbers.
        OSError: if the file cannot be written; what was there before still is.
    """
    problems = unwritable_names(profile) + checks.out_of_range(profile.sites)
    raise_all(f"{path}: this profile cannot be written:", first_of(problems))
    _write(format_profile(profile), path)


def load(path: Path) -> Profile:
    """Read a profile, ours or the authors' two columns.

    A warning names the sites whose omegas do not follow from the variances although the checksum is
    right: they were edited on purpose. Another says of two columns that nothing can be compared.

    Raises:
        AdminError: naming the file and what is wrong, if it is missing, damaged or not a profile.
    """
    try:
        profile, text, digits = _read(path)
        if text.startswith("#"):
            _check_damage(profile, text, digits, path)
        else:
            logger.warning(
                "%s: two columns, without checksum and variances: "
                "damage to an omega would not show",
                path,
            )
        return profile
    except ValueError as error:
        raise AdminError(f"{path}: {error}") from None


def may_replace(path: Path) -> bool:
    """Whether nothing is lost by writing a profile there.

    That is where no file is, an empty one, or a profile, even a part of one, and what is never
    replaced but written into, such as a pipe. Never a folder, or what cannot be read.
    """
    if files.is_special(path):
        return True
    try:
        with _open(path) as file:
            return file.read(len(TITLE)) in (b"", TITLE.encode())
    except (FileNotFoundError, NotADirectoryError):
        return True  # where it cannot be made, whoever writes will say so
    except (OSError, ValueError):
        return False


def renew_checksum(path: Path) -> None:
    """Give a profile that was edited by hand a right checksum, if all else in it is sound.

    Raises:
        AdminError: as ``load``, but for a wrong checksum and omegas that do not follow from the
            variances; and if the file cannot be written: it is then as it was.
    """
    try:
        _, text, _ = _read(path)
    except ValueError as error:
        raise AdminError(f"{path}: {error}") from None
    if not text.startswith("#"):
        raise AdminError(f"{path}: a profile of two columns has no checksum")
    try:
        _write(checks.with_checksum(text), path)
    except OSError as error:
        raise AdminError(f"{path}: the checksum cannot be written: {error}") from None
    logger.info("%s: checksum renewed", path)


def _check_damage(profile: Profile, text: str, digits: Optional[str], path: Path) -> None:
    """Refuse a wrong checksum; of files without one, numbers that do not fit together."""
    way_out = (
        "If it is damaged, make it again, with --init-type adaptive-profiling. "
        "If it was edited by hand on purpose: "
        f"admin-fairseq profile {shlex.quote(os.fspath(path))} --renew-checksum"
    )
    problems = checks.against_recursion(profile.sites) + checks.against_shape(profile.sites)
    # with a checksum sites may be those of any model, in any order
    if digits is None:
        _refuse(
            "its lines do not follow from each other, and it has no checksum:",
            checks.out_of_order(profile.sites) + problems,
            way_out,
        )
    elif digits != checks.checksum(text):
        raise ValueError(f"the checksum is wrong.\n{way_out}")
    elif problems:
        lines = ["edited by hand, omegas do not follow from the variances:"]
        logger.warning("%s: %s", path, "\n  - ".join(lines + first_of(problems)))


def _refuse(heading: str, problems: list[str], *after: str) -> None:
    if problems:
        listed = [f"  - {problem}" for problem in first_of(problems)]
        raise ValueError("\n".join([heading, *listed, *after]))


def _open(path: Path) -> BinaryIO:
    """Open a regular file for reading. A pipe would wait for ever, and a device never end.

    Raises:
        ValueError: if it is anything else.
    """

    def opener(name: str, flags: int) -> int:
        # a pipe that has taken the file's place would be waited for here
        return os.open(name, flags | os.O_NONBLOCK)

    # before opening, which may do something to a device; after it, since the file may be another
    if stat.S_ISREG(os.stat(path).st_mode):
        file = open(path, "rb", opener=opener)  # noqa: SIM115  the caller closes it
        if stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            return file
        file.close()
    raise ValueError("cannot be read as a profile: not a regular file")


def _read(path: Path) -> tuple[Profile, str, Optional[str]]:
    """Return what a file says: the Profile, its text, and its checksum, None without one.

    All is checked but whether the checksum is right and the recursion holds.
    """
    text = _read_text(path)
    # first: later messages quote pieces of the text
    _refuse("cannot be read as a profile:", checks.unprintable(text))
    digits = None
    if text.startswith("#"):
        profile, digits = parse_profile(text)
    else:
        profile = parse_two_columns(text)
    _refuse("no model has such numbers:", checks.out_of_range(profile.sites))
    return profile, text, digits


def _read_text(path: Path) -> str:
    """Return the text of a file, with Unix line ends."""
    try:
        with _open(path) as file:
            # not by the size that the file system tells, which may grow meanwhile
            content = file.read(LARGEST + 1)
    except FileNotFoundError:
        raise ValueError("no such profile") from None
    except OSError as error:
        raise ValueError(f"cannot be read as a profile: {error.strerror}") from None
    if len(content) > LARGEST:
        raise ValueError(f"not a profile: it is larger than {LARGEST // 2**20} MB")
    try:
        # mail and editors change line ends, and put a mark first: the checksum is of neither
        return content.decode("utf-8-sig").replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise ValueError(f"cannot be read as a profile: line {line} is not UTF-8") from None


def _write(text: str, path: Path) -> None:
    with files.replacing(os.fspath(path)) as file:
        file.write(text.encode("utf-8"))
