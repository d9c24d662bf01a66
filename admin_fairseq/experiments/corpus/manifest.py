"""What is known of the archives that recipes name: ``manifest.ini``."""

import configparser
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Optional, Union

from ...errors import AdminError

MANIFEST = Path(__file__).with_name("manifest.ini")
_NONE = "none published"


@dataclass(frozen=True)
class Archive:
    """A file to fetch. What nobody publishes is None.

    ``checksum_from`` says who publishes the checksum, ``known`` when and how it was known.
    """

    name: str
    urls: tuple[str, ...]
    bytes: Optional[int] = None
    sha256: Optional[str] = None
    md5: Optional[str] = None
    checksum_from: str = _NONE
    known: Optional[str] = None


def read_manifest(path: Union[str, Path] = MANIFEST) -> dict[str, Archive]:
    """Return name -> :class:`Archive` of a manifest file.

    Raises:
        AdminError: if it cannot be understood.
    """
    parser = configparser.ConfigParser(interpolation=None)
    try:
        with open(path, encoding="utf-8") as file:
            parser.read_file(file)
        return {name: _archive(name, parser[name]) for name in parser.sections()}
    except (configparser.Error, KeyError, ValueError) as error:
        raise AdminError(f"manifest {path}: {error}") from None


def _archive(name: str, section: Mapping[str, str]) -> Archive:
    known: dict[str, Any] = {}
    for key in ("bytes", "sha256", "md5", "checksum_from", "known"):
        text = section.get(key, _NONE)
        if text != _NONE:
            known[key] = int(text) if key == "bytes" else text
    urls = section["url"].split() + section.get("mirrors", "").split()
    return Archive(name=name, urls=tuple(urls), **known)
