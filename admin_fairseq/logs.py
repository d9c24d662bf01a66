"""Reading fairseq's output: training logs (``--log-format json``) and translations."""

from __future__ import annotations

import json
import re
from typing import Any

from .files import StrPath

_RECORD = re.compile(r"\| (train_inner|\w*valid\w*) \| (.*\S)\s*$")
_FIELD = re.compile(r"([\w/.]+)[= ]([-+.\de]+|inf|nan)(?:,|$| \|)")
_SENTENCE = re.compile(r"(T|H)-(\d+)\t(.*)")

Record = dict[str, Any]


def read_log(path: StrPath) -> tuple[list[Record], list[Record]]:
    """Return (training, validation) records of a log, in order of updates.

    Reads ``--log-format json`` and ``simple``. Names lose their prefix (``valid_ppl`` -> ``ppl``),
    values are numbers. A run that was stopped and resumed into the same log may have logged an
    update twice: the later record counts. A run that has not begun has none.
    """
    train: dict[int, Record] = {}
    valid: dict[int, Record] = {}
    try:
        # a log may hold whatever a library printed; what is no record does not matter
        with open(path, encoding="utf-8", errors="replace") as file:
            for line in file:
                match = _RECORD.search(line)
                if match is None:
                    continue
                record = _record(match[1], match[2])
                if "num_updates" in record:
                    records = train if match[1] == "train_inner" else valid
                    records[record["num_updates"]] = record
    except FileNotFoundError:
        pass
    return _in_order(train), _in_order(valid)


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
    except ValueError:
        return {}  # the line that a killed run left half written
    return found


def _number(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    # int first: num_updates is a key, and is compared with whole numbers
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
    """
    references: dict[int, str] = {}
    hypotheses: dict[int, str] = {}
    with open(path, encoding="utf-8") as file:
        for line in file:
            match = _SENTENCE.match(line)
            if match and match[1] == "T":
                references.setdefault(int(match[2]), match[3])
            elif match:
                _score, _tab, text = match[3].partition("\t")
                hypotheses.setdefault(int(match[2]), text)
    # fairseq prints batch by batch, sentences of like length together
    return _in_order(references), _in_order(hypotheses)
