"""Fetch an archive over HTTP, resumed where it stopped, and compare it with what is published."""

import hashlib
import http.client
import logging
import os
import ssl
import time
import urllib.error
import urllib.request
from http.client import HTTPResponse
from typing import BinaryIO, Optional

from ...errors import AdminError
from .manifest import Archive

log = logging.getLogger(__name__)
_BLOCK = 1 << 20
_NETWORK = (
    urllib.error.URLError,
    http.client.HTTPException,
    ssl.SSLError,
    TimeoutError,
    ConnectionError,
)


def download(archive: Archive, path: str, attempts: int = 3, pause: float = 2.0) -> None:
    """Put ``archive`` at ``path``; what was fetched so far stays in ``path.part``, and is resumed.

    Addresses are tried in order, each ``attempts`` times with ``pause`` seconds in between.

    Raises:
        AdminError: if no address gives the whole file; lists what each one answered.
    """
    part = f"{path}.part"
    answers = []
    for url in archive.urls:
        answer = _try(url, part, attempts, pause)
        if answer is None:
            difference = compare(archive, part)
            if difference is None:
                os.replace(part, path)
                return
            os.remove(part)
            answer = f"{url}: {difference}; thrown away"
        answers.append(answer)
    listed = "\n".join(f"  - {answer}" for answer in answers)
    raise AdminError(
        f"cannot download {archive.name}; started again, it goes on where it stopped; or bring the "
        f"file: --from DIR\n{listed}"
    )


def _try(url: str, part: str, attempts: int, pause: float) -> Optional[str]:
    """Fetch an address into ``part``; return None, or what its last answer was."""
    answer = None
    for attempt in range(attempts):
        if attempt > 0:
            time.sleep(pause)
        try:
            _fetch(url, part)
            return None
        except (OSError, http.client.HTTPException) as error:
            if not isinstance(error, _NETWORK):
                raise  # the disk, not the network
            answer = f"{url}: {error}"
            log.info("%s; %s so far", answer, _megabytes(part))
            if isinstance(error, urllib.error.HTTPError) and error.code < 500:
                break
    return answer


def _fetch(url: str, part: str) -> None:
    """Append to ``part`` what it lacks; a server that cannot send a part sends the whole."""
    have = os.path.getsize(part) if os.path.exists(part) else 0
    request = urllib.request.Request(url, headers={"Range": f"bytes={have}-"} if have else {})
    try:
        response = urllib.request.urlopen(request, timeout=60)
    except urllib.error.HTTPError as error:
        # 416: nothing is missing, or what is here is longer than the file
        if error.code == 416 and have:
            if error.headers.get("Content-Range", "").endswith(f"/{have}"):
                return
            os.remove(part)
        raise
    with response:
        if have and response.status != 206:
            have = 0
        length = response.headers.get("Content-Length")
        total = have + int(length) if length else None
        with open(part, "ab" if have else "wb") as file:
            _copy(response, file, have, total, os.path.basename(part)[: -len(".part")])
    got = os.path.getsize(part)
    if total is not None and got != total:
        raise ConnectionError(f"the connection ended after {got:,} of {total:,} bytes")


def _copy(
    response: HTTPResponse,
    file: BinaryIO,
    done: int,
    total: Optional[int],
    name: str,
    every: float = 10.0,
) -> None:
    started = shown = time.monotonic()
    first = done
    while True:
        block = response.read(_BLOCK)
        if not block:
            return
        file.write(block)
        done += len(block)
        now = time.monotonic()
        if now - shown > every:
            shown = now
            share = f" of {total / 1e6:,.0f}" if total else ""
            log.info(
                "%s: %.0f%s MB, %.1f MB/s",
                name,
                done / 1e6,
                share,
                (done - first) / 1e6 / (now - started),
            )


def compare(archive: Archive, path: str) -> Optional[str]:
    """Return what differs from the published bytes and checksums, or None."""
    size = os.path.getsize(path)
    if archive.bytes is not None and size != archive.bytes:
        return f"{size:,} bytes where {archive.bytes:,} are published"
    for kind in ("sha256", "md5"):
        wanted = getattr(archive, kind)
        if wanted:
            found = checksum(path, kind)
            if found != wanted:
                return f"{kind} {found} where {wanted} is published ({archive.checksum_from})"
    return None


def checksum(path: str, kind: str = "sha256") -> str:
    """Return the hexadecimal digest of a file."""
    digest = hashlib.new(kind)
    with open(path, "rb") as file:
        while block := file.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()


def _megabytes(path: str) -> str:
    return f"{os.path.getsize(path) / 1e6:.1f} MB" if os.path.exists(path) else "nothing"
