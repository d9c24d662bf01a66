"""Sentences out of archives, one a line, streamed.

Formats: tar (gzip), gzip, plain text, TED XML, TED tags, SGML.

Entities (``&amp;``) stay as published, as in fairseq's scripts and sacreBLEU's test sets.
"""

import gzip
import logging
import os
import re
import tarfile
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import IO, cast

from ...errors import AdminError

log = logging.getLogger(__name__)
DAMAGE = (EOFError, zlib.error, gzip.BadGzipFile, tarfile.TarError)
_SEGMENT = re.compile(r"<seg\b[^>]*>\s*(.*?)\s*</seg>", re.DOTALL | re.IGNORECASE)
# as fairseq's prepare-iwslt14.sh: lines of these tags are no text, titles and descriptions are
_DROPPED = re.compile(r"<url>|<talkid>|<keywords>")
_STRIPPED = re.compile(r"</?(?:title|description)>")


def read_archive(
    path: str, wanted: Mapping[str, Sequence[str]], exact: bool = False
) -> Iterator[tuple[str, str]]:
    """Yield (word, line) for the members of a tar archive, in the archive's order.

    The archive is read to its end, so that its own checksum is seen.

    Args:
        path: the archive.
        wanted: word (a language) -> the names that its member may have; the first of them in the
            archive counts.
        exact: see :func:`decoded`.

    Raises:
        AdminError: if it is damaged, or a member is missing.
    """
    missing = dict(wanted)
    try:
        with open(path, "rb") as file:
            stream = cast(IO[bytes], gzip.GzipFile(fileobj=file)) if path.endswith("gz") else file
            with tarfile.open(fileobj=stream, mode="r|") as tar:
                for member in tar:
                    name = os.path.normpath(member.name)
                    word = _word_of(name, missing)
                    text = tar.extractfile(member) if word and member.isfile() else None
                    if word and text:
                        del missing[word]
                        for line in sentences(text, name, exact):
                            yield word, line
            while stream.read(1 << 20):
                pass
    except DAMAGE as error:
        raise damaged(path, error) from None
    if missing:
        names = ", ".join(" or ".join(names) for names in missing.values())
        raise AdminError(f"{path} holds no {names}: it is not the archive that the recipe means")


def _word_of(name: str, wanted: Mapping[str, Sequence[str]]) -> str:
    for word, names in wanted.items():
        if name in names:
            return word
    return ""


def read_text(path: str, exact: bool = False) -> Iterator[str]:
    """Yield the lines of a text file, unpacked if its name ends in .gz; exact: :func:`decoded`.

    Raises:
        AdminError: if it is damaged.
    """
    try:
        with open(path, "rb") as file:
            yield from sentences(file, os.path.basename(path), exact)
    except DAMAGE as error:
        raise damaged(path, error) from None


def damaged(path: str, error: Exception) -> AdminError:
    """Return the error for a file that cannot be unpacked to its end."""
    return AdminError(
        f"{path} is damaged ({error}): remove it, and start again or bring another with --from DIR"
    )


def sentences(stream: IO[bytes], name: str, exact: bool = False) -> Iterator[str]:
    """Yield the sentences of a binary stream, whose name tells its format; see :func:`decoded`."""
    if name.endswith(".gz"):
        stream, name = cast(IO[bytes], gzip.GzipFile(fileobj=stream)), name[: -len(".gz")]
    lines = decoded(stream, name, exact)
    if name.endswith((".xml", ".sgm")):
        return segments(lines, name)
    if os.path.basename(name).startswith("train.tags."):
        return (_STRIPPED.sub("", line) for line in lines if not _DROPPED.search(line))
    return lines


def decoded(stream: Iterable[bytes], name: str, exact: bool = False) -> Iterator[str]:
    """Yield lines as text; only a line feed ends one, other ends of lines become spaces.

    If ``exact``, those stay, for Moses' scripts to treat: returns are dropped by one of them, and
    become spaces by another.

    Bytes that are not UTF-8 become U+FFFD, with a warning at the end: one bad line of millions is
    no reason to stop, and dropping it on one side alone would shift all that follow.
    """
    bad = 0
    for raw in stream:
        try:
            line = raw.decode("utf-8")
        except UnicodeDecodeError:
            line, bad = raw.decode("utf-8", "replace"), bad + 1
        line = line.rstrip("\r\n")
        yield line if exact or line.isprintable() else " ".join(line.splitlines())
    if bad:
        log.warning("%s: %d lines are not UTF-8; their bad bytes became U+FFFD", name, bad)


def segments(lines: Iterable[str], name: str) -> Iterator[str]:
    """Yield the texts of ``<seg>`` elements, which may go over several lines.

    Raises:
        AdminError: if the last element is not closed.
    """
    open_segment = ""
    for line in lines:
        open_segment = f"{open_segment} {line}" if open_segment else line
        if "<seg" not in open_segment.lower():
            open_segment = ""
        elif "</seg>" in line.lower():
            for match in _SEGMENT.finditer(open_segment):
                yield " ".join(match[1].split("\n"))
            open_segment = open_segment[open_segment.lower().rindex("</seg>") + len("</seg>") :]
            if "<seg" not in open_segment.lower():
                open_segment = ""
    if open_segment:
        raise AdminError(f"{name} ends within a <seg>: it is damaged")
