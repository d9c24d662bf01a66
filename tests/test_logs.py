from admin_fairseq.logs import read_generation, read_log

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
