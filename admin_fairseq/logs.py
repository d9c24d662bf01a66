"""Reading fairseq's output: training logs (``--log-format json``) and translations."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from .errors import AdminError
from .files import StrPath

_RECORD = re.compile(r"\| (train_inner|\w*valid\w*) \| (.*\S)\s*$")
_FIELD = re.compile(r"([\w/.]+)[= ]([-+.\de]+|inf|nan)(?:,|$| \|)")
_SENTENCE = re.compile(r"(T|H)-(\d+)\t(.*)")

TRAINING = "train_inner"  # the kind of a record of training; others are validation sets

Record = dict[str, Any]
Curve = list[tuple[int, float]]  # (updates, validation nll in bits a token), in order of updates


def read_log(path: StrPath) -> tuple[list[Record], list[Record]]:
    """Return (training, validation) records of a log, in order of updates.

    Reads ``--log-format json`` and ``simple``. Names lose their prefix (``valid_ppl`` -> ``ppl``),
    values are numbers. A run that was stopped and resumed into the same log may have logged an
    update twice: the later record counts. A run that has not begun has none. Of several validation
    sets the first of ``--valid-subset`` counts, which fairseq chooses the best checkpoint by.

    Raises:
        AdminError: if there is a log that cannot be read.
    """
    train: dict[int, Record] = {}
    valid: dict[int, Record] = {}
    first = None
    try:
        # a log may hold whatever a library printed; what is no record does not matter
        with open(path, encoding="utf-8", errors="replace") as file:
            for kind, record in records_in(file):
                if kind == TRAINING:
                    train[record["num_updates"]] = record
                    continue
                first = first or kind
                if kind == first:
                    valid[record["num_updates"]] = record
    except (FileNotFoundError, NotADirectoryError):
        pass
    except (OSError, ValueError) as error:  # ValueError: of a name with a NUL
        raise AdminError(f"{path}: this log cannot be read: {error}") from None
    return _in_order(train), _in_order(valid)


def records_in(lines: Iterable[str]) -> Iterator[tuple[str, Record]]:
    """Yield kind and record of each line of a log that is one whole record.

    The kind is :data:`TRAINING` or the name of a validation set; ``num_updates`` is an int.
    """
    for line in lines:
        match = _RECORD.search(line)
        if match is None:
            continue
        record = _record(match[1], match[2])
        update = record.get("num_updates")
        # fairseq writes a million as 1e+06; a damaged line may hold anything
        if isinstance(update, (int, float)) and math.isfinite(update):
            yield match[1], {**record, "num_updates": int(update)}


def curve_of(records: Iterable[Record]) -> Curve:
    """Return the validation curve of records of validation.

    Criteria other than cross entropy have no nll: their records are left out.
    """
    curve = []
    for record in records:
        bits = record.get("nll_loss")
        if isinstance(bits, (int, float)):
            curve.append((record["num_updates"], float(bits)))
    return curve


def _in_order(records: dict[int, Any]) -> list[Any]:
    return [records[number] for number in sorted(records)]


def _record(kind: str, text: str) -> Record:
    record = {}
    for name, value in _fields(text).items():
        record[name.replace(kind + "_", "", 1)] = _number(value)
    return record


def _fields(text: str) -> dict[str, Any]:
    """Return name -> value of one record: JSON, ``loss=8.6, ppl=400`` or ``loss 8.6 | ppl 400``."""
    if not text.startswith("{"):
        return dict(_FIELD.findall(text))
    try:
        found: dict[str, Any] = json.loads(text)
    except (ValueError, RecursionError):
        return {}  # the line that a killed run left half written
    return found


def _number(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    for kind in (int, float):
        try:
            return kind(value)
        except ValueError:
            continue
    return value


def read_generation(path: StrPath) -> tuple[list[str], list[str]]:
    """Return (references, hypotheses) of an output of fairseq-generate, in the order of the data.

    Both are as fairseq prints them: tokenised, without BPE if ``--remove-bpe`` was given. With
    ``--nbest`` the first hypothesis counts.

    Raises:
        AdminError: if it cannot be read, or is not whole: no sentence in it, or one that lacks its
            hypothesis or its reference.
    """
    references: dict[int, str] = {}
    hypotheses: dict[int, str] = {}
    try:
        with open(path, encoding="utf-8", newline="\n") as file:
            for line in file:
                match = _SENTENCE.match(line)
                if match and match[1] == "T":
                    references.setdefault(int(match[2]), match[3])
                elif match:
                    _score, _tab, text = match[3].partition("\t")
                    hypotheses.setdefault(int(match[2]), text)
    except (OSError, ValueError) as error:
        raise AdminError(f"{path}: this translation cannot be read: {error}") from None
    _refuse_parts(path, list(references), list(hypotheses))
    # fairseq prints batch by batch, sentences of like length together
    return _in_order(references), _in_order(hypotheses)


def _refuse_parts(path: StrPath, references: Sequence[int], hypotheses: Sequence[int]) -> None:
    """Refuse a translation in which a hypothesis would stand beside another's reference."""
    if not references and not hypotheses:
        raise AdminError(f"{path}: no translation of fairseq-generate: it has no T and H lines")
    alone = sorted(set(references) ^ set(hypotheses))
    if alone:
        raise AdminError(
            f"{path}: not a whole output of fairseq-generate: {len(references)} references (T "
            f"lines) and {len(hypotheses)} hypotheses (H lines); sentence {alone[0]} has but one "
            "of them. Translate again, with references (not fairseq-interactive)"
        )
