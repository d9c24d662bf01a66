"""What is known of the archives: ``manifest.ini``, and checksums that a recipe brings for plain text files."""

import configparser
from dataclasses import dataclass
from pathlib import Path
from typing import Optional, Tuple

from ...errors import AdminError

MANIFEST = Path(__file__).with_name("manifest.ini")


@dataclass(frozen=True)
class Archive:
    """A file to fetch. What nobody publishes is None; ``checksum_from`` says who publishes the checksum."""

    name: str
    urls: Tuple[str, ...]
    bytes: Optional[int] = None
    sha256: Optional[str] = None
    md5: Optional[str] = None
    checksum_from: str = "none published"


def read_manifest(path=MANIFEST):
    """Return name -> :class:`Archive` of a manifest file."""
    parser = configparser.ConfigParser(interpolation=None)
    try:
        with open(path, encoding="utf-8") as file:
            parser.read_file(file)
        return {name: _archive(name, parser[name]) for name in parser.sections()}
    except (configparser.Error, KeyError, ValueError) as error:
        raise AdminError(f"manifest {path}: {error}") from None


def _archive(name, section):
    known = {
        key: section[key]
        for key in ("sha256", "md5")
        if section.get(key, "none published") != "none published"
    }
    size = section.get("bytes", "none published")
    return Archive(
        name=name,
        urls=tuple(section["url"].split() + section.get("mirrors", "").split()),
        bytes=None if size == "none published" else int(size),
        checksum_from=section.get("checksum_from", "none published"),
        **known,
    )
