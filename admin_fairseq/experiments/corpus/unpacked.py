"""The checksum of a file's content: of a single gzipped text unpacked, of everything else as it is."""

import gzip
import hashlib

BLOCK = 1 << 20


def unpacked_sha256(path):
    """Return the hexadecimal sha256. Reading a .gz to its end also checks gzip's own checksum."""
    digest = hashlib.sha256()
    with (gzip.open if path.endswith(".gz") else open)(path, "rb") as file:
        for block in iter(lambda: file.read(BLOCK), b""):
            digest.update(block)
    return digest.hexdigest()
