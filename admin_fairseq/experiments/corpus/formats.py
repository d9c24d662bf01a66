"""Sentences out of archives, one a line, streamed: tar (gzip), gzip, plain text, TED XML, TED tags, SGML.

Entities (``&amp;``) stay as published, as in fairseq's scripts and sacreBLEU's test sets.
"""

import gzip
import logging
import os
import re
import tarfile
import zlib

from ...errors import AdminError

log = logging.getLogger(__name__)
DAMAGE = (EOFError, zlib.error, gzip.BadGzipFile, tarfile.TarError)
SEGMENT = re.compile(r"<seg\b[^>]*>\s*(.*?)\s*</seg>", re.DOTALL | re.IGNORECASE)
# as fairseq's prepare-iwslt14.sh: lines of these tags are no text, titles and descriptions are
DROPPED = re.compile(r"<url>|<talkid>|<keywords>")
STRIPPED = re.compile(r"</?(?:title|description)>")


def read_archive(path, wanted):
    """Yield (word, line) for the members of a tar archive, in the archive's order.

    ``wanted`` maps a word (a language) to the names that its member may have; of those that are there the
    first in the archive counts. The archive is read to its end, so that its own checksum is seen.

    Raises:
        AdminError: if it is damaged, or a member is missing.
    """
    missing = dict(wanted)
    try:
        with open(path, "rb") as file:
            stream = gzip.open(file) if path.endswith("gz") else file
            with tarfile.open(fileobj=stream, mode="r|") as tar:
                for member in tar:
                    name = os.path.normpath(member.name)
                    word = next((word for word, names in missing.items() if name in names), None)
                    if word is not None and member.isfile():
                        del missing[word]
                        yield from (
                            (word, line) for line in sentences(tar.extractfile(member), name)
                        )
            while stream.read(1 << 20):
                pass
    except DAMAGE as error:
        raise damaged(path, error) from None
    if missing:
        names = ", ".join(" or ".join(names) for names in missing.values())
        raise AdminError(f"{path} holds no {names}: it is not the archive that the recipe means")


def read_text(path):
    """Yield the lines of a text file, unpacked if its name ends in .gz."""
    try:
        with open(path, "rb") as file:
            yield from sentences(file, os.path.basename(path))
    except DAMAGE as error:
        raise damaged(path, error) from None


def damaged(path, error):
    return AdminError(
        f"{path} is damaged ({error}): remove it, and start again or bring another with --from DIR"
    )


def sentences(stream, name):
    """Yield the sentences of a binary stream; what it is, its name tells."""
    if name.endswith(".gz"):
        stream, name = gzip.open(stream), name[: -len(".gz")]
    lines = decoded(stream, name)
    if name.endswith((".xml", ".sgm")):
        return segments(lines, name)
    if os.path.basename(name).startswith("train.tags."):
        return (STRIPPED.sub("", line) for line in lines if not DROPPED.search(line))
    return lines


def decoded(stream, name):
    """Yield lines as text; only a line feed ends one, other ends of lines become spaces.

    Bytes that are not UTF-8 become U+FFFD, with a warning at the end: one bad line of millions is no
    reason to stop, and dropping it on one side alone would shift all that follow.
    """
    bad = 0
    for raw in stream:
        try:
            line = raw.decode("utf-8")
        except UnicodeDecodeError:
            line, bad = raw.decode("utf-8", "replace"), bad + 1
        line = line.rstrip("\r\n")
        yield line if line.isprintable() else " ".join(line.splitlines())
    if bad:
        log.warning("%s: %d lines are not UTF-8; their bad bytes became U+FFFD", name, bad)


def segments(lines, name):
    """Yield the texts of ``<seg>`` elements, which may go over several lines."""
    open_segment = ""
    for line in lines:
        open_segment = f"{open_segment} {line}" if open_segment else line
        if "<seg" not in open_segment.lower():
            open_segment = ""
        elif "</seg>" in line.lower():
            for match in SEGMENT.finditer(open_segment):
                yield " ".join(match[1].split("\n"))
            open_segment = open_segment[open_segment.lower().rindex("</seg>") + len("</seg>") :]
            if "<seg" not in open_segment.lower():
                open_segment = ""
    if open_segment:
        raise AdminError(f"{name} ends within a <seg>: it is damaged")
