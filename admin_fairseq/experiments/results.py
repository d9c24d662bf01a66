"""results.tsv: one line per run and test subset.

A second line for the same run and subset takes the place of the first: evaluating again corrects,
and never counts a run twice. Writers wait for each other (``results.tsv.lock``), and readers see
whole files only.
"""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from typing import Any, NamedTuple

from ..errors import AdminError, raise_all
from ..files import StrPath, locked, replacing
from .values import DEPTH

_LARGEST = 2**63 - 1  # of an integer

Row = dict[str, Any]  # column -> value; None for an empty cell


class Column(NamedTuple):
    """What a column holds: text, depth, int, float or curve; and whether it must be filled."""

    kind: str
    help: str
    required: bool = False
    is_new: bool = False  # files of older releases lack it


# empty cells: not measured, or it does not apply
COLUMNS = {
    "run": Column("text", "the run's folder, relative to this file: its log, hypotheses", True),
    "data": Column("text", "the recipe's name", True),
    "subset": Column("text", "fairseq's name: test, test1, ...", True),
    "init_type": Column("text", "the name of a method of init_types", True),
    "depth": Column("depth", "encoder-decoder layers", True),
    "seed": Column("int", "--seed", True),
    "variant": Column("text", "what differs from the recipe"),
    "updates": Column("int", "updates that were trained"),
    "tokens_per_update": Column("int", "processes x max-tokens x update-freq"),
    "averaged": Column("text", "checkpoints that were averaged"),
    "decoding": Column("text", "beam and length penalty"),
    "diverged": Column("text", "at update n: reason; empty if it did not"),
    "valid_nll": Column("float", "last validation loss, bits a token"),
    "bleu": Column("float", "tokenised BLEU, as fairseq prints it"),
    "bleu_split": Column("float", "the same, @-@ joined, compounds split as tensor2tensor does"),
    "sacrebleu": Column("float", "detokenised, against the raw reference"),
    "chrf": Column("float", "detokenised, against the raw reference"),
    "bleu_signature": Column("text", "of sacreBLEU, as the next two"),
    "sacrebleu_signature": Column("text", ""),
    "chrf_signature": Column("text", ""),
    "wall_clock": Column("int", "seconds of training, all sessions"),
    "hardware": Column("text", "devices that it was trained on"),
    "commit": Column("text", "of this repository; + after it: files differed"),
    "versions": Column("text", "of what results depend on"),
    "curve": Column("curve", "validation losses, update:bits, in order", is_new=True),
    "lr": Column("float", "peak learning rate", is_new=True),
}
MEASURES = {
    "bleu": "tokenised BLEU",
    "bleu_split": "tokenised BLEU, compounds split",
    "sacrebleu": "sacreBLEU",
    "chrf": "chrF",
}


def append(path: StrPath, rows: Sequence[Row]) -> None:
    """Write rows to ``path``; they replace those of the same run and subset.

    Raises:
        AdminError: if the file is no results.tsv, or a row has another column; nothing is written.
    """
    path = os.path.abspath(path)
    # read within the lock: what another process adds meanwhile would be lost
    with locked(path + ".lock"):
        before = read(path) if os.path.exists(path) else []
        known = {}
        for row in [*before, *rows]:
            known[row["run"], row["subset"]] = row
        lines = ["\t".join(COLUMNS)]
        for row in known.values():
            lines.append(_line(row))
        # before it is written: what would not be read again is refused here
        _parse(lines, path)
        with replacing(path) as file:
            file.write(("\n".join(lines) + "\n").encode("utf-8"))


def _line(row: Row) -> str:
    unknown = [name for name in row if name not in COLUMNS]
    if unknown:
        raise AdminError(f"results.tsv has no column {', '.join(unknown)}")
    cells = []
    for name in COLUMNS:
        value = row.get(name)
        if value is not None and COLUMNS[name].kind == "curve":
            value = " ".join(f"{update}:{bits:g}" for update, bits in value)
        # white space separates columns and lines
        cells.append("" if value is None else " ".join(str(value).split()))
    return "\t".join(cells)


def read(path: StrPath) -> list[Row]:
    """Return the rows of a results.tsv, in its order.

    Raises:
        AdminError: naming line and column of everything that is wrong.
    """
    try:
        # -sig: editors on Windows put a mark before the text
        with open(path, encoding="utf-8-sig") as file:
            # _line leaves nothing in a cell that ends a line here, such as a form feed
            lines = file.read().rstrip("\n").splitlines()
    except OSError as error:
        raise AdminError(f"{path}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise AdminError(f"{path}: not a results.tsv: it is not UTF-8 text") from None
    return _parse(lines, path)


def _parse(lines: Sequence[str], path: StrPath) -> list[Row]:
    header = lines[0].split("\t") if lines else []
    wrong = _wrong_header(header)
    if wrong:
        raise AdminError(f"{path}: not a results.tsv of admin-fairseq evaluate: {wrong}")
    rows: list[Row] = []
    problems: list[str] = []
    seen: dict[tuple[str, str], int] = {}
    for number, line in enumerate(lines[1:], 2):
        cells = line.split("\t")
        if len(cells) != len(header):
            problems.append(f"line {number}: {len(cells)} cells, {len(header)} columns")
            continue
        row = _read_row(number, dict(zip(header, cells)), problems)
        first = seen.setdefault((row.get("run", ""), row.get("subset", "")), number)
        if first != number and row.get("run"):
            problems.append(
                f"line {number}: run {row['run']}, subset {row['subset']} is also in line {first}"
            )
        rows.append(row)
    raise_all(f"{path} is damaged:", problems)
    return rows


def _wrong_header(header: Sequence[str]) -> str:
    """Return what is wrong with a header; empty if nothing is."""
    missing = [name for name in COLUMNS if name not in header and not COLUMNS[name].is_new]
    extra = [name for name in header if name not in COLUMNS]
    if not header:
        return "it is empty"
    if missing:
        return f"line 1: missing columns: {', '.join(missing)}"
    if extra:
        return f"line 1: unknown columns: {', '.join(extra)}"
    if len(set(header)) != len(header):
        return "line 1: a column appears twice"
    return ""


def _read_row(number: int, cells: dict[str, str], problems: list[str]) -> Row:
    row = dict.fromkeys(COLUMNS)
    for name, cell in cells.items():
        try:
            row[name] = _cell(COLUMNS[name], cell)
        except ValueError as error:
            problems.append(f"line {number}, column {name}: {error}")
    return row


def _cell(column: Column, cell: str) -> Any:
    if cell == "":
        if column.required:
            raise ValueError("empty")
        return None
    if column.kind == "depth" and not DEPTH.fullmatch(cell):
        raise ValueError(f"'{cell[:40]}' is not a depth, such as 6-6")
    if column.kind == "int":
        return _number(cell, int, "an integer")
    if column.kind == "float":
        return _number(cell, float, "a number")
    if column.kind == "curve":
        return [_point(word) for word in cell.split()]
    return cell


def _point(word: str) -> tuple[int, float]:
    update, _, bits = word.partition(":")
    return _number(update, int, "an update"), _number(bits, float, "a loss")


def _number(cell: str, kind: type, name: str) -> Any:
    try:
        value = kind(cell)
    except ValueError:
        raise ValueError(f"'{cell[:40]}' is not {name}") from None
    if kind is int and abs(value) > _LARGEST:
        raise ValueError(f"'{cell[:40]}...' is too large")
    if kind is float and not math.isfinite(value):
        raise ValueError(f"'{cell[:40]}' is not finite")
    return value
