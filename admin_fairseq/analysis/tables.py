"""Rows -> files: tidy TSV (a line for every number), and JSON with where they come from."""

import json
import math

from .. import files
from ..errors import AdminError


def write(prefix, rows, provenance, summary=None):
    """Write ``PREFIX.tsv`` and ``PREFIX.json``, each whole or not at all.

    Args:
        prefix: path without ending.
        rows: list of dicts with the same keys.
        provenance: dict, what it takes to make the numbers again.
        summary: what was concluded from them; goes into the JSON only.

    Raises:
        AdminError: if they cannot be written.
    """
    lines = ["\t".join(rows[0])] + [
        "\t".join(text(value) for value in row.values()) for row in rows
    ]
    document = {"provenance": provenance, "summary": summary, "rows": rows}
    contents = {
        "tsv": "\n".join(lines),
        "json": json.dumps(plain(document), indent=1, allow_nan=False),
    }
    try:
        for ending, content in contents.items():
            with files.replacing(f"{prefix}.{ending}") as file:
                file.write((content + "\n").encode())
    except OSError as error:
        raise AdminError(f"--out {prefix}: cannot be written: {error}") from None


def text(value):
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def plain(value):
    """Return ``value`` with NaN and infinities as None: JSON has no word for them."""
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
