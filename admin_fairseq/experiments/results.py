"""results.tsv: one line per run and test subset. The columns, reading with all mistakes at once, safe appending.

A second line for the same run and subset takes the place of the first: evaluating again corrects, and never
counts a run twice. Writers wait for each other (``results.tsv.lock``), and readers see whole files only.
"""

import fcntl
import math
import os
from collections import OrderedDict

from ..errors import AdminError, raise_all
from ..files import replacing

# name -> (kind, what it holds). Empty cells: not measured, or it does not apply.
COLUMNS = OrderedDict(
    [
        ("run", ("text!", "the run's folder, relative to this file: its log and hypotheses")),
        ("data", ("text!", "the recipe's name")),
        ("subset", ("text!", "fairseq's name: test, test1, ...")),
        ("init_type", ("text!", "train.sh's --init-type")),
        ("depth", ("depth!", "encoder-decoder layers")),
        ("seed", ("int!", "--seed")),
        ("variant", ("text", "what differs from the recipe")),
        ("updates", ("int", "updates that were trained")),
        ("tokens_per_update", ("int", "processes x max-tokens x update-freq")),
        ("averaged", ("text", "checkpoints that were averaged")),
        ("decoding", ("text", "beam and length penalty")),
        ("diverged", ("text", "at update n: reason; empty if it did not")),
        ("valid_nll", ("float", "last validation loss, bits a token")),
        ("bleu", ("float", "tokenised BLEU, as fairseq prints it")),
        (
            "bleu_split",
            ("float", "the same with compounds split at hyphens, as tensor2tensor does"),
        ),
        ("sacrebleu", ("float", "detokenised, against the raw reference")),
        ("chrf", ("float", "detokenised, against the raw reference")),
        ("bleu_signature", ("text", "")),
        ("sacrebleu_signature", ("text", "")),
        ("chrf_signature", ("text", "")),
        ("wall_clock", ("int", "seconds of training, all sessions")),
        ("hardware", ("text", "")),
        ("commit", ("text", "of this repository; + after it: files differed")),
        ("versions", ("text", "")),
    ]
)
MEASURES = OrderedDict(
    [
        ("bleu", "tokenised BLEU"),
        ("bleu_split", "tokenised BLEU, compounds split"),
        ("sacrebleu", "sacreBLEU"),
        ("chrf", "chrF"),
    ]
)


def append(path, rows):
    """Write rows (dicts of columns) to ``path``; those of a run and subset that are there already are replaced.

    Raises:
        AdminError: if what is there is no results.tsv, or a row has another column; nothing is written.
    """
    path = os.path.abspath(path)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path + ".lock", "a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        known = OrderedDict(
            ((row["run"], row["subset"]), row)
            for row in (read(path) if os.path.exists(path) else [])
        )
        for row in rows:
            known[row["run"], row["subset"]] = row
        text = "\t".join(COLUMNS) + "\n" + "".join(_line(row) for row in known.values())
        _parse(text.splitlines(), path)
        with replacing(path) as file:
            file.write(text.encode("utf-8"))


def _line(row):
    unknown = [name for name in row if name not in COLUMNS]
    if unknown:
        raise AdminError(f"results.tsv has no column {', '.join(unknown)}")
    cells = ("" if row.get(name) is None else str(row[name]) for name in COLUMNS)
    return "\t".join(" ".join(cell.split()) for cell in cells) + "\n"


def read(path):
    """Return the rows of a results.tsv, in its order: dicts of all columns; numbers as numbers, empty cells as None.

    Raises:
        AdminError: naming line and column of everything that is wrong.
    """
    try:
        with open(path, encoding="utf-8") as file:
            lines = file.read().splitlines()
    except OSError as error:
        raise AdminError(f"{path}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise AdminError(f"{path}: not a results.tsv: it is no UTF-8 text") from None
    return _parse(lines, path)


def _parse(lines, path):
    header = lines[0].split("\t") if lines else []
    missing = [name for name in COLUMNS if name not in header]
    extra = [name for name in header if name not in COLUMNS]
    if missing or extra or len(set(header)) != len(header):
        what = (
            "it is empty"
            if not lines
            else (
                f"line 1: {'missing columns: ' + ', '.join(missing) if missing else 'columns that are not known or twice'}"
                f"{': ' + ', '.join(extra) if extra and not missing else ''}"
            )
        )
        raise AdminError(f"{path}: not a results.tsv of evaluate.sh: {what}")
    rows, problems, seen = [], [], {}
    for number, line in enumerate(lines[1:], 2):
        cells = line.split("\t")
        if len(cells) != len(header):
            problems.append(f"line {number}: {len(cells)} cells, {len(header)} columns")
            continue
        row = {}
        for name, cell in zip(header, cells):
            try:
                row[name] = _cell(COLUMNS[name][0], cell)
            except ValueError as error:
                problems.append(f"line {number}, column {name}: {error}")
        first = seen.setdefault((row.get("run"), row.get("subset")), number)
        if first != number and row.get("run"):
            problems.append(
                f"line {number}: run {row['run']}, subset {row['subset']} stands in line {first} already"
            )
        rows.append(row)
    raise_all(f"{path} is damaged:", problems)
    return rows


def _cell(kind, cell):
    if cell == "":
        if kind.endswith("!"):
            raise ValueError("empty")
        return None
    kind = kind.rstrip("!")
    if kind == "depth" and not (cell.count("-") == 1 and cell.replace("-", "").isdigit()):
        raise ValueError(f"'{cell[:40]}' is no depth, such as 6-6")
    if kind in ("int", "float"):
        try:
            value = int(cell) if kind == "int" else float(cell)
        except ValueError:
            raise ValueError(
                f"'{cell[:40]}' is not a{'n integer' if kind == 'int' else ' number'}"
            ) from None
        if not math.isfinite(value):
            raise ValueError(f"'{cell[:40]}' is not finite")
        return value
    return cell
