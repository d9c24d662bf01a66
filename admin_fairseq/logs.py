"""Reading fairseq's output: training logs (``--log-format json``) and translations."""

import json
import re

RECORD = re.compile(r"\| (train_inner|\w*valid\w*) \| (.*\S)\s*$")


def read_log(path):
    """Return (training, validation) records of a log, each a list of dicts in order of updates.

    Reads ``--log-format json`` and ``simple``. Names lose their prefix (``valid_ppl`` -> ``ppl``),
    values are numbers. A run that was stopped and resumed into the same log may have logged an update
    twice: the later record counts.
    """
    records = {"train": {}, "valid": {}}
    try:
        with open(path, encoding="utf-8") as file:
            for line in file:
                match = RECORD.search(line)
                fields = _fields(match[2]) if match else {}
                record = {
                    name.replace(match[1] + "_", "", 1): _number(value)
                    for name, value in fields.items()
                }
                if "num_updates" in record:
                    kind = "train" if match[1] == "train_inner" else "valid"
                    records[kind][record["num_updates"]] = record
    except FileNotFoundError:
        pass  # a run that has not begun
    return tuple([found[update] for update in sorted(found)] for found in records.values())


def _fields(text):
    """Return name -> value of one record: JSON, ``loss=8.6, ppl=400`` or ``loss 8.6 | ppl 400``."""
    if text.startswith("{"):
        try:
            return json.loads(text)
        except ValueError:
            return {}  # the line that a killed run left half written
    return dict(re.findall(r"([\w/.]+)[= ]([-+.\de]+|inf|nan)(?:,|$| \|)", text))


def _number(value):
    if not isinstance(value, str):
        return value
    for kind in (int, float):
        try:
            return kind(value)
        except (TypeError, ValueError):
            continue
    return value


def read_generation(path):
    """Return (references, hypotheses) of an output of fairseq-generate, in the order of the data.

    Both are as fairseq prints them: tokenised, without BPE if ``--remove-bpe`` was given. With
    ``--nbest`` the first hypothesis counts.
    """
    found = {"T": {}, "H": {}}
    with open(path, encoding="utf-8") as file:
        for line in file:
            match = re.match(r"(T|H)-(\d+)\t(.*)", line)
            if match:
                text = match[3].split("\t", 1)[1] if match[1] == "H" else match[3]
                found[match[1]].setdefault(int(match[2]), text)
    return tuple([texts[number] for number in sorted(texts)] for texts in found.values())
