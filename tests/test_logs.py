import logging
import subprocess
import sys

import pytest

from admin_fairseq.errors import AdminError
from admin_fairseq.experiments.runs import watching
from admin_fairseq.logs import curve_of, read_generation, read_log

LOG = """2026-01-01 | INFO | fairseq_cli.train | Namespace({'a': 1})
2026-01-01 | INFO | train_inner | {"epoch": 1, "update": 0.5, "loss": "9.5", "ppl": "350.1", "num_updates": "20", "lr": "5e-05"}
2026-01-01 | INFO | valid | {"epoch": 1, "valid_loss": "8.25", "valid_nll_loss": "8.0", "valid_ppl": "256", "valid_num_updates": "20"}
2026-01-01 | INFO | train | {"epoch": 1, "train_loss": "9.1", "train_num_updates": "20"}
2026-01-01 | INFO | train_inner | {"epoch": 2, "update": 1.5, "loss": "inf", "num_updates": "40"}
2026-01-01 | INFO | train_inner | {"epoch": 1, "update": 0.5, "loss": "9.4", "num_updates": "20"}
2026-01-01 | INFO | train_inner | {"epoch": 2, "upda"""  # noqa: E501


def test_reads_records_by_update(tmp_path):
    path = tmp_path / "train.log"
    path.write_text(LOG)
    train, valid = read_log(path)
    assert [(r["num_updates"], r["loss"]) for r in train] == [(20, 9.4), (40, float("inf"))]
    assert valid == [{"epoch": 1, "loss": 8.25, "nll_loss": 8.0, "ppl": 256, "num_updates": 20}]


SIMPLE = """2026-01-01 03:12:06 | INFO | train_inner | epoch 001:     20 / 215 loss=8.688, nll_loss=8.645, ppl=400.42, wps=0, num_updates=20, lr=0.0002, gnorm=2.4
2026-01-01 03:12:06 | INFO | valid | epoch 001 | valid on 'valid' subset | loss 8.25 | nll_loss 8 | ppl 256.0 | num_updates 20 | best_loss 8.25
2026-01-01 03:12:06 | INFO | fairseq_cli.train | begin validation on "valid" subset
2026-01-01 03:12:06 | INFO | train | epoch 001 | loss 9.5 | ppl 512 | num_updates 20
"""  # noqa: E501


def test_reads_the_simple_format_too(tmp_path):
    path = tmp_path / "train.log"
    path.write_text(SIMPLE)
    (train,), (valid,) = read_log(path)
    assert (train["num_updates"], train["loss"], train["lr"], train["gnorm"]) == (
        20,
        8.688,
        0.0002,
        2.4,
    )
    assert (valid["num_updates"], valid["nll_loss"], valid["ppl"], valid["best_loss"]) == (
        20,
        8,
        256.0,
        8.25,
    )


def test_a_run_that_has_not_begun(tmp_path):
    assert read_log(tmp_path / "none") == ([], [])


def test_translations_come_in_the_order_of_the_data(tmp_path):
    path = tmp_path / "out"
    path.write_text(
        "INFO x\nS-1\ta\nT-1\tb c\nH-1\t-0.5\tb\nH-1\t-0.9\tworse\n"
        "S-0\td\nT-0\te\nH-0\t-0.1\t\nGenerate test: BLEU\n"
    )
    assert read_generation(path) == (["e", "b c"], ["", "b"])


def test_bytes_that_are_no_text_are_passed_over(tmp_path):
    path = tmp_path / "train.log"
    path.write_bytes(b"\xff\xfe a library's own line\n" + LOG.encode())
    train, _ = read_log(path)
    assert [record["num_updates"] for record in train] == [20, 40]


VALIDATION = '| INFO | %s | {"%s_nll_loss": "%s", "%s_ppl": "%s", "%s_num_updates": "%s"}\n'


def validation(subset, bits, updates):
    return VALIDATION % (subset, subset, bits, subset, 2**bits, subset, updates)


def test_of_several_validation_sets_the_first_counts(tmp_path):
    path = tmp_path / "train.log"
    lines = [validation("valid", 3.0, 100), validation("valid1", 8.0, 100)]
    path.write_text(
        "".join([*lines, validation("valid", 2.5, 200), validation("valid1", 7.0, 200)])
    )
    assert curve_of(read_log(path)[1]) == [(100, 3.0), (200, 2.5)]


def test_a_million_updates_as_fairseq_writes_them(tmp_path):
    path = tmp_path / "train.log"
    path.write_text(validation("valid", 3.0, "1e+06") + validation("valid", 2.0, "1.0001e+06"))
    curve = curve_of(read_log(path)[1])
    assert curve == [(1_000_000, 3.0), (1_000_100, 2.0)]
    assert all(type(update) is int for update, _ in curve)


@pytest.mark.parametrize("update", ["nan", "inf", "soon", "[1]"])
def test_records_of_no_update_are_passed_over(update, tmp_path):
    path = tmp_path / "train.log"
    path.write_text(validation("valid", 3.0, update) + validation("valid", 2.0, 5))
    assert curve_of(read_log(path)[1]) == [(5, 2.0)]


def test_a_criterion_without_nll_has_no_curve(tmp_path):
    path = tmp_path / "train.log"
    path.write_text('| INFO | valid | {"valid_loss": "3", "valid_num_updates": "5"}\n')
    assert len(read_log(path)[1]) == 1 and curve_of(read_log(path)[1]) == []


@pytest.mark.parametrize("nested", ["{" * 3, '{"a": ' * 100_000])
def test_torn_records_are_passed_over(nested, tmp_path):
    path = tmp_path / "train.log"
    path.write_text(f"| INFO | valid | {nested}\n" + validation("valid", 2.0, 5))
    assert curve_of(read_log(path)[1]) == [(5, 2.0)]


def test_a_log_that_cannot_be_read_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    assert read_log(tmp_path / "file" / "train.log") == ([], [])
    with pytest.raises(AdminError, match="train.log: this log cannot be read"):
        read_log(tmp_path / ("x" * 300) / "train.log")
    with pytest.raises(AdminError, match="this log cannot be read"):
        read_log(f"{tmp_path}/\0/train.log")


WRITER = """
import sys, time
for line in sys.argv[1:]:
    print(line, end="", flush=True)
    time.sleep(0.4)
"""


@pytest.mark.subprocess
def test_watching_a_log_with_torn_lines_and_two_sets(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(watching, "POLL", 0.1)
    first = validation("valid", 3.0, "1e+06")
    lines = [
        first[:30],  # half a line, and its rest in time
        first[30:],
        validation("valid1", 9.0, "1e+06"),
        '| INFO | valid | {"valid_ppl": "2"| INFO | train_inner | {"loss": "9"}\n',
        validation("valid", 2.0, "1.5e+06"),
        '| INFO | train_inner | {"loss": "nan", "num_updates": "1.6e+06"}\n',
    ]
    log = tmp_path / "train.log"
    with open(log, "w") as file, caplog.at_level(logging.INFO):
        process = subprocess.Popen([sys.executable, "-c", WRITER, *lines], stdout=file)
        assert watching.wait_and_watch(process, log, 0) == 1_600_000
        process.wait()
    shown = [line for line in caplog.messages if "perplexity" in line]
    assert [line.split(": ")[1] for line in shown] == [
        "update 1000000, perplexity 8.00",
        "update 1500000, perplexity 4.00",
    ]
