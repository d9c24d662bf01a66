"""Rows -> files, and back: tidy TSV, a line a number, and JSON with where they come from."""

from __future__ import annotations

import json
import math
import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from .. import files
from ..errors import AdminError

COMMAND = "admin-fairseq analyze"


def write(
    prefix: str,
    rows: Sequence[Mapping[str, Any]],
    provenance: Mapping[str, Any],
    summary: Mapping[str, Any] | None = None,
) -> None:
    """Write ``PREFIX.tsv`` and ``PREFIX.json``, each whole or not at all.

    Args:
        prefix: path without ending.
        rows: with the same keys each.
        provenance: what it takes to make the numbers again.
        summary: what was concluded from them; goes into the JSON only.

    Raises:
        AdminError: if they cannot be written.
    """
    lines = ["\t".join(rows[0])]
    for row in rows:
        lines.append("\t".join(_cell(value) for value in row.values()))
    document = {"provenance": provenance, "summary": summary, "rows": rows}
    contents = {
        "tsv": "\n".join(lines),
        "json": json.dumps(_without_nan(document), indent=1, allow_nan=False),
    }
    try:
        for ending, content in contents.items():
            with files.replacing(f"{prefix}.{ending}") as file:
                file.write((content + "\n").encode())
    except OSError as error:
        raise AdminError(f"--out {prefix}: cannot be written: {error}") from None


def read(path: str) -> tuple[str, list[dict[str, Any]], dict[str, Any] | None]:
    """Read a JSON file of :func:`write`.

    Returns:
        The kind of analysis, its rows and its summary, with NaN where a number was not finite.

    Raises:
        AdminError: if it cannot be read, or is not the result of an analysis.
    """
    try:
        with open(path, encoding="utf-8") as file:
            document = json.load(file)
    except (OSError, ValueError) as error:
        raise AdminError(f"{path}: cannot be read: {error}") from None
    try:
        words = shlex.split(document["provenance"]["command"])
        kind = words[len(COMMAND.split())]
        rows, summary = document["rows"], document["summary"]
    except (KeyError, IndexError, TypeError, AttributeError, ValueError):
        raise AdminError(f"{path}: it was not written by '{COMMAND}'") from None
    return kind, _with_nan(rows), _with_nan(summary) if summary else None


def _cell(value: Any) -> str:
    # tables are for reading: the JSON has every digit
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _without_nan(value: Any) -> Any:
    """Return ``value`` with NaN and infinities as None: JSON has no word for them."""
    if isinstance(value, Mapping):
        return {key: _without_nan(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_without_nan(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _with_nan(value: Any) -> Any:
    """Return ``value`` with None as NaN, the reverse of :func:`_without_nan`."""
    if isinstance(value, dict):
        return {key: _with_nan(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_with_nan(item) for item in value]
    return math.nan if value is None else value
