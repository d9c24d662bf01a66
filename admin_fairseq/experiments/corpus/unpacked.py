"""The checksum of a file's content: of a gzipped text unpacked, of all else as it is."""

import gzip
import hashlib

_BLOCK = 1 << 20


def unpacked_sha256(path: str) -> str:
    """Return the hexadecimal sha256. Reading a .gz to its end also checks gzip's own checksum."""
    digest = hashlib.sha256()
    opener = gzip.open if path.endswith(".gz") else open
    with opener(path, "rb") as file:
        while block := file.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()
