"""``prepare --check``: what preparing would stumble over, without downloading or writing."""

import http.client
import logging
import os
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Optional

from ...errors import AdminError, raise_all
from ..recipe import Recipe
from .fetch import archives_of, locate
from .machine import check_disk, missing_package
from .manifest import Archive
from .recipe import Corpus
from .stages import Stages

log = logging.getLogger(__name__)
_SECONDS = 20  # that a server may take to answer
_NO_HEAD = (403, 405, 501)  # answers of servers that do not take HEAD requests


def check(
    recipe: Recipe,
    dest: Path,
    manifest: dict[str, Archive],
    from_folder: Optional[str],
    with_disk: bool,
) -> None:
    """Log what is known of every file of a recipe, and where it is.

    Args:
        recipe: whose [data] is whole.
        dest: the folder in which the data would be made; it need not exist.
        manifest: name -> what is known of an archive.
        from_folder: where the files are; None: they are downloaded.
        with_disk: ask for room on the disk.

    Raises:
        AdminError: naming all that preparing would stumble over.
    """
    problems: list[str] = []
    if with_disk:
        _collect(problems, lambda: check_disk(dest, recipe.data.disk_gb))
    if recipe.data.generator:
        _collect(problems, _check_generator)
    _collect(problems, lambda: _check_files(recipe.data, dest, manifest, from_folder, problems))
    raise_all(f"{recipe.name} cannot be prepared as it is:", problems)
    log.info("%s can be prepared in %s (about %g GB)", recipe.name, dest, recipe.data.disk_gb)


def _collect(problems: list[str], ask: Callable[[], object]) -> None:
    try:
        ask()
    except AdminError as error:
        problems.append(str(error))


def _check_generator() -> None:
    try:
        from . import numbers_and_dates  # noqa: F401
    except ModuleNotFoundError as error:
        raise missing_package(error) from None


def _check_files(
    corpus: Corpus,
    dest: Path,
    manifest: dict[str, Archive],
    from_folder: Optional[str],
    problems: list[str],
) -> None:
    archives = archives_of(corpus, manifest, downloaded=not from_folder)
    paths = locate(archives, Stages(dest), from_folder)
    for name, archive in archives.items():
        path = paths[name]
        if os.path.exists(path):
            problem = _size_problem(archive, os.path.getsize(path), path)
            log.info("%s: %s; %s", name, path, _known(corpus, archive))
        else:
            problem = _ask_servers(archive)
            log.info("%s: %s", name, _known(corpus, archive))
        if problem:
            problems.append(problem)


def _size_problem(archive: Archive, size: Optional[int], where: str) -> Optional[str]:
    # a text that the user unpacked has another size than its archive
    packed = where.endswith(archive.name)
    if not packed or size is None or archive.bytes is None or size == archive.bytes:
        return None
    return f"{where}: {size:,} bytes where {archive.bytes:,} are published"


def _known(corpus: Corpus, archive: Archive) -> str:
    """Return what a file is compared with, and when and how that was known."""
    text = archive.name.removesuffix(".gz")
    if text in corpus.checksums:
        return "sha256 of the unpacked text in the recipe"
    kinds = [kind for kind in ("bytes", "sha256", "md5") if getattr(archive, kind) is not None]
    compared = f"compared by {', '.join(kinds)}" if kinds else "nothing to compare it with"
    return f"{compared} ({archive.known or 'the manifest says not how it was known'})"


def _ask_servers(archive: Archive) -> Optional[str]:
    """Ask addresses until one has the file; return what is wrong with all of them, or None."""
    answers = []
    for url in archive.urls:
        try:
            size = _announced(url)
        except (OSError, http.client.HTTPException, ValueError) as error:
            answers.append(f"{url}: {error}")
            continue
        problem = _size_problem(archive, size, url)
        if problem is None:
            told = "of a size that it does not tell" if size is None else f"{size:,} bytes"
            log.info("%s: %s has it, %s", archive.name, url, told)
            return None
        answers.append(problem)
    return f"{archive.name} cannot be downloaded, bring it with --from DIR: {'; '.join(answers)}"


def _announced(url: str) -> Optional[int]:
    """Return the bytes that a server announces, without reading them; None if it does not say."""
    try:
        return _size(urllib.request.Request(url, method="HEAD"))
    except urllib.error.HTTPError as error:
        if error.code not in _NO_HEAD:
            raise
    return _size(urllib.request.Request(url, headers={"Range": "bytes=0-0"}))


def _size(request: urllib.request.Request) -> Optional[int]:
    with urllib.request.urlopen(request, timeout=_SECONDS) as response:
        return _size_in(response.headers, response.status)


def _size_in(headers: Mapping[str, str], status: int) -> Optional[int]:
    text = headers.get("Content-Length")
    if status == http.client.PARTIAL_CONTENT:
        text = headers.get("Content-Range", "").rpartition("/")[2]
    return int(text) if text and text.isdigit() else None
