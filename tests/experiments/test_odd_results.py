"""Reports of results that somebody mixed, edited or damaged: no number stands for two things."""

import logging

import pytest

from admin_fairseq import plots
from admin_fairseq.errors import AdminError
from admin_fairseq.experiments import results
from admin_fairseq.experiments.report import latex, no_warmup, rates, sections, tables, variants
from admin_fairseq.experiments.report.blocks import Cell, Table
from admin_fairseq.experiments.report.write import write_report

from .report_runs import full_row, write_log, write_run


def write(folder, *rows):
    results.append(folder / "results.tsv", list(rows))
    return folder / "results.tsv"


def report(folder, *rows):
    """The report of rows, as Markdown."""
    write_report(write(folder, *rows), folder / "out")
    return (folder / "out" / "report.md").read_text()


@pytest.mark.parametrize(
    ("variant", "items"),
    [
        ("", []),
        ("no-warmup lr=1e-3 beta2=0.98", ["no-warmup", "lr=1e-3", "beta2=0.98"]),
        ("lr=1e-3 --clip-norm 0.1 -s en", ["lr=1e-3", "--clip-norm 0.1", "-s en"]),
        ("--x -0.5 1 --y --z a b", ["--x -0.5 1", "--y", "--z a b"]),
    ],
)
def test_a_flag_and_its_values_are_one_change(variant, items):
    assert tables.items_of(variant) == items


SWAPPED = "--dropout 0.1 --attention-dropout 0.3", "--dropout 0.3 --attention-dropout 0.1"


def test_flags_with_swapped_values_are_two_panels_of_a_grid():
    start = "no-warmup lr=1e-3 beta2=0.98"
    rows = [
        full_row(f"r{bits}", "default", 1, None, valid_nll=bits, variant=f"{start} {others}")
        for bits, others in zip((2.0, 6.0), SWAPPED)
    ]
    (grid,) = no_warmup.collect(rows)
    assert list(grid.runs) == [f"6-6 Post-LN {words.replace('--', '')}" for words in SWAPPED]
    losses = [row["valid_nll"] for runs in grid.runs.values() for (row,) in runs.values()]
    assert losses == [2.0, 6.0]


def test_flags_in_another_order_are_not_pooled_as_seeds():
    start = "no-warmup lr=1e-3 beta2=0.98"
    rows = [
        full_row(f"r{bits}", "default", 1, None, valid_nll=bits, variant=f"{start} {others}")
        for bits, others in zip((2.0, 2.5), ("--a 1 --b 2", "--b 2 --a 1"))
    ]
    (grid,) = no_warmup.collect(rows)
    assert sorted(len(runs[0.001, 0.98]) for runs in grid.runs.values()) == [1, 1]


def test_variants_are_named_by_the_flag_that_differs():
    rows = [
        full_row(f"r{end}", "default", 1, None, valid_nll=bits, variant=f"--clip-norm 0.1 {end}")
        for bits, end in ((2.0, "--dropout 0.1"), (3.0, "--dropout 0.3"))
    ]
    (found,) = variants.collect(rows)
    assert found.title == "iwslt14_de-en, 6-6, test, --clip-norm 0.1"
    assert [name for name, _, _ in found.lines] == ["--dropout 0.1", "--dropout 0.3"]


def test_scores_of_two_decodings_have_no_mean():
    rows = [
        full_row("a", "default", 1, 30.0),
        full_row("b", "default", 2, 20.0, decoding="beam 1"),
        full_row("c", "default", 3, None, averaged=None, decoding=None, valid_nll=2.0),
        full_row("d", "default", 1, 31.0, variant="--xavier-ffn"),
    ]
    (found,) = variants.collect(rows)
    shown = {name: (str(line.means["bleu"]), line.seeds) for name, line, _ in found.lines}
    assert shown == {
        "last 10 epochs, beam 5": ("30.00 (1 of 2)", (1, 3)),
        "last 10 epochs, beam 1": ("20.00", (2,)),
        "--xavier-ffn": ("31.00", (1,)),
    }


def test_a_seed_counts_once_at_each_rate(tmp_path, caplog):
    runs = {"a": ("lr=1e-3", None), "b": ("lr=0.001", 30.0), "c": ("", None), "d": ("lr=3e-3", 31)}
    rows = []
    for bits, (name, (variant, bleu)) in enumerate(runs.items(), 1):
        write_run(tmp_path, name, 1, 0.1)
        more = {"data": "quickstart", "depth": "18-18", "valid_nll": float(bits)}
        rows.append(full_row(name, "default", 1, bleu, variant=variant, **more))
    with caplog.at_level(logging.WARNING):
        text = report(tmp_path, *rows)
    assert "| Post-LN | **2.00** | 4.00 | 1 |" in text, "b, which was translated"
    assert "a is b again" in caplog.text and "c is b again" in caplog.text


def test_a_rate_that_no_line_tells_is_said_to_be_left_out(tmp_path, caplog):
    rows = [
        full_row("a", "default", 1, None, data="mine", valid_nll=1.0),
        full_row("b", "default", 1, None, data="mine", valid_nll=2.0, variant="lr=1e-3"),
        full_row("c", "default", 1, None, data="mine", valid_nll=3.0, variant="lr=2e-3"),
    ]
    with caplog.at_level(logging.WARNING):
        (found,) = rates.collect(rows, {})
    assert found.rates == (0.001, 0.002)
    assert "mine, 6-6, test: left out" in caplog.text and caplog.text.rstrip().endswith(": a")
    # as evaluate writes it since: the rate that the run was trained with
    rows[0]["lr"] = 5e-4
    (found,) = rates.collect(rows, {})
    assert found.rates == (0.0005, 0.001, 0.002) and found.best("default") == 0.0005


@pytest.mark.parametrize("rate", ["nan", "inf", "0", "-1", "x", ""])
def test_rates_that_no_axis_has_are_of_no_figure(rate, tmp_path):
    rows = [
        full_row("a", "default", 1, None, valid_nll=1.0, variant=f"lr={rate}"),
        full_row("b", "default", 1, None, valid_nll=1.0, variant=f"no-warmup lr={rate} beta2=0.9"),
        full_row("c", "default", 1, None, valid_nll=2.0, variant="lr=1e-3"),
        full_row("d", "default", 1, None, valid_nll=3.0, variant="lr=3e-3"),
    ]
    assert "| Post-LN | **2.00** | 3.00 | 1 |" in report(tmp_path, *rows)


def test_a_recipe_of_published_numbers_alone_tells_no_rate(tmp_path):
    (tmp_path / "mine.ini").write_text("[published]\ndefault 6-6 = 30.1, me\n")
    rows = [
        full_row("a", "default", 1, None, data="mine", valid_nll=1.0),
        full_row("b", "default", 1, None, data="mine", valid_nll=2.0, variant="lr=1e-3"),
    ]
    write_report(write(tmp_path, *rows), tmp_path / "out", tmp_path)
    assert "30.1" in (tmp_path / "out" / "report.md").read_text()


def test_a_row_without_a_curve_does_not_hide_the_runs(tmp_path):
    with_curve = full_row("a", "default", 1, 1.0, curve=[(5, 2.0), (9, 1.0)])
    without = full_row("a", "default", 1, 1.0, subset="test1")
    other = full_row("b", "adaptive", 1, 1.0, curve=[(5, 1.5), (9, 0.5)])
    known = sections.Results.of(write(tmp_path, with_curve, without, other))
    assert known.curves["a"] == [(5, 2.0), (9, 1.0)]
    assert known.sections()[0].common_loss == 1.0


def test_the_line_of_a_figure_goes_through_the_means_of_the_table():
    figure, ((axis,),) = plots.new_figure(1, 1, width=4, height=3)
    plots.draw_rates(axis, {"x": {1e-3: [(0.5, False), (6.7, True)], 3e-3: [(6, True), (8, True)]}})
    assert list(axis.lines[0].get_ydata()) == [0.5, 7.0]


def test_names_are_drawn_as_they_are(tmp_path):
    curves = {name: [(1, 2.0), (2, 1.0)] for name in (r"x$\bad$", "_private", "a_b$", "plain")}
    drawn = {}

    def draw(axis):
        plots.draw_curves(axis, curves, "nll")
        drawn["texts"] = [text.get_text() for text in axis.get_legend().get_texts()]

    plots.save_figure(tmp_path / "x.png", draw)
    assert [text.replace("\\$", "$").strip() for text in drawn["texts"]] == list(curves)


@pytest.mark.parametrize("text", ["[opt]", "*star"])
def test_no_line_of_a_table_is_an_argument_of_the_one_before(text):
    cells = [[Cell("6-6"), Cell("x")], [Cell(text), Cell("y")]]
    (line,) = [line for line in latex.render([Table("t", ["a", "b"], cells)]).splitlines()
               if line.endswith(r"& y \\")]  # fmt: skip
    assert line.startswith("{}" + text)


@pytest.mark.parametrize("depth", ["6-", "-6", "²-³", "0-6", "6", "6-6-6"])
def test_what_is_no_depth(depth, tmp_path):
    path = write(tmp_path, full_row("a", "default", 1, 1.0))
    path.write_text(path.read_text().replace("\t6-6\t", f"\t{depth}\t"))
    with pytest.raises(AdminError, match="line 2, column depth: .* is not a depth"):
        results.read(path)


@pytest.mark.parametrize("number", ["9" * 19, "-" + "9" * 401])
def test_integers_that_no_run_has(number, tmp_path):
    path = write(tmp_path, full_row("a", "default", 1, 1.0))
    path.write_text(path.read_text().replace("\t6-6\t1\t", f"\t6-6\t{number}\t"))
    with pytest.raises(AdminError, match="line 2, column seed: .* is too large"):
        results.read(path)


def test_marks_and_empty_lines_that_editors_leave(tmp_path):
    path = write(tmp_path, full_row("a", "default", 1, 1.0))
    before = results.read(path)
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes().replace(b"\n", b"\r\n") + b"\r\n\r\n")
    assert results.read(path) == before


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"", "it has no T and H lines"),
        (b"H-0\t-1\ta\nH-1\t-1\tb\n", "0 references .* and 2 hypotheses"),
        (b"T-0\ta\nT-1\tb\nH-1\t-1\tb\n", "sentence 0 has but one of them"),
        (b"T-0\t\xff\nH-0\t-1\tb\n", "cannot be read: .*utf-8"),
    ],
)
def test_a_damaged_translation_is_not_tested_for_significance(text, message, tmp_path):
    for name in ("a", "b"):
        write_run(tmp_path, name, 1, 0.1)
    (tmp_path / "b" / "test.out").write_bytes(text)
    rows = [full_row("a", "default", 1, 30.0), full_row("b", "adaptive", 1, 31.0)]
    with pytest.raises(AdminError, match=f"b/test.out: .*{message}"):
        report(tmp_path, *rows)


@pytest.mark.parametrize("name", ["file", "x" * 300])
def test_runs_whose_logs_cannot_be(name, tmp_path):
    (tmp_path / "file").write_text("no folder")
    rows = [full_row(name, "default", 1, 30.0), full_row("a", "adaptive", 1, 31.0)]
    write_log(tmp_path, "a", [(5, 1.0)])
    if name == "file":
        assert "| Post-LN | 30.00 |" in report(tmp_path, *rows).replace(" 35.64 ± 0.23 |", "")
        return
    with pytest.raises(AdminError, match="train.log: this log cannot be read: .*too long"):
        report(tmp_path, *rows)
