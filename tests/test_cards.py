"""The cards' tables against the results.tsv beside them: a number that nobody ran stands in none.

Losses and scores are computed here from the lines of results.tsv, without the code of ``report``.
"""

import re
import statistics
from pathlib import Path

import pytest

from admin_fairseq.experiments import results
from admin_fairseq.init_types import METHODS

ROOT = Path(__file__).resolve().parent.parent
CARDS = ROOT / "nmt-experiments"
NUMBER = re.compile(r"[+-]?\d[\d,]*(?:\.\d+)?")
SEEDS = (1, 2, 3)


def tables(text):
    """The tables of a Markdown text, each as a list of header -> cell."""
    found = []
    for block in re.findall(r"(?:^\|.*\n)+", text + "\n", re.MULTILINE):
        rows = [
            [cell.strip() for cell in line.strip()[1:-1].split("|")] for line in block.splitlines()
        ]
        found.append([dict(zip(rows[0], row)) for row in rows[2:]])
    return found


def card(name):
    return (CARDS / f"{name}.md").read_text()


def rows_of(name):
    return results.read(CARDS / "results" / f"{name}.tsv")


def method_of(cell):
    """The canonical word of a method's name in tables, such as ``Admin, flat``."""
    (name,) = [method.name for method in METHODS if method.label == cell]
    return name


def words_of(row):
    return dict(word.split("=", 1) for word in (row["variant"] or "").split() if "=" in word)


def close(text, value):
    """Whether a number of a card is a value, rounded; results.tsv holds losses to 0.001 itself."""
    digits = len(text.partition(".")[2])
    return abs(float(text.replace(",", "")) - value) <= 0.5 * 10**-digits + 5.1e-4


def is_italic(cell):
    """Whether a cell is italic, bold or not: ``*7.1*`` or ``***7.1***``."""
    return (len(cell) - len(cell.lstrip("*"))) % 2 == 1


def assert_cell(cell, values):
    """A cell is the mean of values, with the deviation where there are several."""
    numbers = NUMBER.findall(cell)
    assert len(numbers) == (2 if len(values) > 1 else 1), (cell, values)
    assert close(numbers[0], statistics.mean(values)), (cell, values)
    if len(values) > 1:
        assert close(numbers[1], statistics.stdev(values)), (cell, values)


def assert_list(cell, values):
    """A cell is a list of values, one a seed, a dash for each that there is not."""
    parts = cell.replace("*", "").split(", ")
    assert len(parts) == len(values), (cell, values)
    for part, value in zip(parts, values):
        assert part == "-" if value is None else close(part, value), (cell, values)


def of_run(rows, method, rate, updates):
    """Seed -> row, of a method's runs at a rate."""
    found = {}
    for row in rows:
        words = words_of(row)
        if (row["init_type"], words["lr"], words["updates"]) == (method, rate, str(updates)):
            found[row["seed"]] = row
    return found


def first_update_at(row, loss):
    return next((update for update, bits in row["curve"] if bits <= loss), None)


def test_learning_rates():
    rows = rows_of("learning_rates")
    by_rate, at_best, longer, _ = tables(card("learning_rates"))
    seen = 0
    for line in by_rate:
        method = method_of(line.pop("method"))
        found = {}
        for rate, cell in line.items():
            runs = of_run(rows, method, rate, 600)
            assert bool(cell) == bool(runs), (method, rate)
            if cell:
                assert_cell(cell, [row["valid_nll"] for row in runs.values()])
                assert is_italic(cell) == any(row["diverged"] for row in runs.values())
                found[statistics.mean(row["valid_nll"] for row in runs.values())] = cell
                seen += len(runs)
        assert [loss for loss, cell in found.items() if "**" in cell] == [min(found)], method
    assert seen == sum(words_of(row)["updates"] == "600" for row in rows), "a run is in no table"

    (common,) = re.findall(r"updates to ([\d.]+) bits \|", card("learning_rates"))
    for line in at_best:
        runs = of_run(rows, method_of(line["method"]), line["rate"], 600)
        assert sorted(runs) == list(SEEDS)
        assert_cell(line["nll, bits"], [row["valid_nll"] for row in runs.values()])
        assert_cell(line["BLEU"], [row["bleu"] for row in runs.values()])
        diverged = sum(bool(row["diverged"]) for row in runs.values())
        assert line["diverged"] == f"{diverged} of {len(runs)}"
        updates = [first_update_at(runs[seed], float(common) + 0.005) for seed in SEEDS]
        shown = ", ".join("never" if update is None else str(update) for update in updates)
        assert line[f"updates to {common} bits"] == shown

    for line in longer:
        runs = of_run(rows, method_of(line["method"].split(", seed 1")[0]), line["rate"], 1500)
        ordered = [runs[seed] for seed in sorted(runs)]
        for measure, column in (("nll, bits", "valid_nll"), ("BLEU", "bleu")):
            values = [row[column] for row in ordered]
            assert_list(line[f"{measure}: seeds 1, 2, 3"], values)
            if len(values) > 1:
                assert_cell(line[f"{measure.split(',')[0]}, mean"], values)
        ((header, cells),) = [item for item in line.items() if item[0].startswith("updates to ")]
        # a comma without a space is a thousands' one
        shown = cells.split(", ")
        targets = re.findall(r"\d\.\d+", header)
        assert len(shown) == len(targets) or cells == "never"
        for cell, loss in zip(shown, targets):
            updates = [first_update_at(row, float(loss)) for row in ordered]
            assert cell == "never" if None in updates else close(cell, statistics.mean(updates))


def test_no_warmup():
    rows = {}
    for row in rows_of("no_warmup"):
        words = words_of(row)
        optimizer = "RAdam" if "radam" in row["variant"] else "Adam"
        place = (row["depth"], row["init_type"], optimizer)
        rows.setdefault(place, {})[words["lr"], words["beta2"]] = row
    (lines,) = tables(card("no_warmup"))
    for line in lines:
        mine = rows.pop((line["depth"], method_of(line["method"]), line["optimizer"]))
        sound = [row["valid_nll"] for row in mine.values() if not row["diverged"]]
        bold = []
        for rate in ("3e-4", "1e-3", "3e-3"):
            for cell, beta2 in zip(line[rate].split(", "), ("0.98", "0.99", "0.999")):
                row = mine[rate, beta2]
                assert_cell(cell, [row["valid_nll"]])
                assert is_italic(cell) == bool(row["diverged"])
                bold += [row["valid_nll"]] * ("**" in cell)
        assert bold == ([min(sound)] if sound else [])
        assert line["trained"] == f"{len(sound)} of {len(mine)}"
    assert not rows, "runs that no line has"


def test_omega_shape():
    methods = {"recursion": "adaptive", "flat": "adaptive-flat", "analytic": "analytic"}
    rows = rows_of("omega_shape")
    for line in tables(card("omega_shape"))[0]:
        first = line[next(iter(line))]
        (method,) = [name for word, name in methods.items() if re.search(rf"\b{word}\b", first)]
        for rate in ("1e-3", "3e-3", "6e-3"):
            runs = of_run(rows, method, rate, 400)
            losses = [runs[seed]["valid_nll"] for seed in SEEDS]
            # the loss of results.tsv is rounded: a perplexity near 4 may be off by 0.002
            cells = [float(cell) for cell in line[rate].strip("*").split(", ")]
            assert cells == pytest.approx([2**loss for loss in losses], abs=0.008)
    sentence = card("omega_shape").partition("The report's table")[2].partition("\n\n")[0]
    for word, method in methods.items():
        (_, after) = re.split(rf"\b{word}\b`?", sentence)
        for cell, rate in zip(re.findall(r"[\d.]+ ± [\d.]+\d", after), ("1e-3", "3e-3", "6e-3")):
            runs = of_run(rows, method, rate, 400)
            assert_cell(cell, [row["valid_nll"] for row in runs.values()])


# first words of a line of the card -> what the variant of its runs has besides rate and updates
ABLATIONS = {
    "measured, learnable": "",
    "frozen": "--freeze-omega",
    "**all 1": "profile=ones",
    "shuffled": "profile=shuffled",
    "reversed": "profile=reversed",
    "of another seed": "profile=other-seed",
    "measured on a quarter": "profile=quarter-batch",
    "measured on four times": "profile=fourfold-batch",
    "measured on Multi30k": "profile=other-corpus",
    "padding": "--admin-count-padding",
    "`--xavier-ffn`": "--xavier-ffn",
    "flat": "flat",
}


def test_ablations():
    runs = {}
    for row in rows_of("ablations"):
        others = [word for word in row["variant"].split() if not re.match("(lr|updates)=", word)]
        key = "flat" if row["init_type"] == "adaptive-flat" else " ".join(others)
        runs.setdefault(key, {})[row["seed"]] = row
    known = {key: [of_seed[seed] for seed in SEEDS] for key, of_seed in runs.items()}
    lines, at_the_start = tables(card("ablations"))
    for line in lines:
        (start,) = [words for words in ABLATIONS if line["omegas"].startswith(words)]
        mine = known[ABLATIONS[start]]
        assert is_italic(line["nll"]) == all(row["diverged"] for row in mine)
        assert_list(line["nll"], [row["valid_nll"] for row in mine])
        if start != "measured, learnable":
            pairs = zip(mine, known[""])
            difference = statistics.mean(a["valid_nll"] - b["valid_nll"] for a, b in pairs)
            assert close(line["difference"].strip("*"), difference)
        scores = [row["bleu"] for row in mine]
        assert_list(line["BLEU"], scores if any(score is not None for score in scores) else [None])
    assert len(lines) == len(known), "runs that no line has"

    for line in at_the_start:
        words = {"measured": "", "all 1": "profile=ones", **ABLATIONS}
        key = next(key for word, key in words.items() if line["omegas"] in (word, word.strip("*")))
        losses = [row["valid_nll"] for row in known[key]]
        assert close(line["nll, mean of 3"], statistics.mean(losses))


def test_the_readmes_choice_of_an_init_type_quotes_the_card():
    section = (ROOT / "README.md").read_text().partition("## Which init type?")[2]
    quoted = re.findall(r"\d+\.\d+", section.partition("\n## ")[0])
    of_card = set(re.findall(r"\d+\.\d+", card("learning_rates")))
    assert len(quoted) > 5 and set(quoted) <= of_card
