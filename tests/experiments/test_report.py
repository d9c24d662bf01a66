"""The report's numbers: means, the best, updates to the common loss, and significance."""

import csv
import logging

import numpy as np
import pytest
from sacrebleu.metrics import BLEU
from sacrebleu.significance import PairedTest

from admin_fairseq.errors import AdminError
from admin_fairseq.experiments import results
from admin_fairseq.experiments.published import Published
from admin_fairseq.experiments.recipe import RECIPES, read_published
from admin_fairseq.experiments.report import (
    curves,
    document,
    no_warmup,
    rates,
    sections,
    significance,
    tables,
    variants,
)
from admin_fairseq.experiments.report.write import write_report
from admin_fairseq.logs import read_generation
from tests.experiments.report_runs import full_row, row, write_log, write_run, write_table


@pytest.fixture
def table(tmp_path):
    return write_table(tmp_path)


def shown(section):
    """The lines of a section's table as they are printed: method -> column -> text."""
    printed = document.results_table(section, "", {})
    lines = {}
    for cells in printed.rows:
        line = dict(zip(printed.columns, [cell.text for cell in cells]))
        lines[line["method"]] = line
    return lines


@pytest.mark.parametrize("values", [[], [3.25], [1.0, 2.0, 4.5], [35.64, 35.5, 35.67, 35.1, 35.9]])
def test_mean_and_deviation_against_numpy(values):
    text = tables.mean_sd(values)
    if len(values) > 1:
        assert text == f"{np.mean(values):.2f} ± {np.std(values, ddof=1):.2f}"
    else:
        assert text == "".join(f"{value:.2f}" for value in values)


@pytest.mark.parametrize(
    ("values", "runs", "text"),
    [
        ((), 0, ""),
        ((), 2, ""),
        ((35.0,), 1, "35.00"),
        ((35.0,), 3, "35.00 (1 of 3)"),
        ((35.0, 36.0), 2, "35.50 ± 0.71"),
        ((35.0, 36.0), 5, "35.50 ± 0.71 (2 of 5)"),
    ],
)
def test_a_mean_over_fewer_seeds_than_were_run_is_marked(values, runs, text):
    assert str(tables.Mean(values, runs)) == text


def test_ours_stands_beside_the_papers(table):
    (section,) = sections.build(table)
    lines = shown(section)
    assert list(lines) == ["Post-LN", "Pre-LN", "Admin"]
    assert (
        lines["Post-LN"]["published"] == "35.64 ± 0.23"
        and lines["Post-LN"]["tokenised BLEU"] == "30.85 ± 1.20 (2 of 3)"
    )
    assert lines["Post-LN"]["diverged"] == "1 of 3" and lines["Post-LN"]["seeds"] == "1 2 3"
    assert lines["Admin"]["tokenised BLEU"] == "33.40" and lines["Admin"]["diverged"] == "0 of 1"
    empty = lines["Pre-LN"]
    assert empty["published"] == "35.50 ± 0.04"
    assert not any(list(empty.values())[3:])
    (pre_ln,) = (line for line in section.lines if line.method == "pre-ln")
    assert list(pre_ln.means) == [*results.MEASURES, "valid_nll"]
    assert not any(str(mean) for mean in pre_ln.means.values())
    assert pre_ln.seeds == () and pre_ln.diverged == 0


def test_words_of_old_files_and_aliases_are_one_method(tmp_path):
    rows = [row("a", "default", 1, 30.0), row("b", "post-ln", 2, 31.0)]
    rows += [row("c", "admin", 1, 32.0), row("d", "adaptive", 2, 33.0)]
    rows.append(row("e", "my-own", 1, 34.0))
    results.append(tmp_path / "results.tsv", rows)
    (section,) = sections.build(tmp_path / "results.tsv")
    numbers = {name: line["tokenised BLEU"] for name, line in shown(section).items()}
    assert numbers == {
        "Post-LN": "30.50 ± 0.71",
        "Pre-LN": "",
        "Admin": "32.50 ± 0.71",
        "my-own": "34.00",
    }


def test_depths_are_in_order_of_their_numbers():
    rows = [full_row(depth, "default", 1, 1.0, depth=depth) for depth in ("18-18", "6-6", "12-6")]
    rows.append(full_row("x", "adaptive", 1, 1.0, depth="6-6"))
    lines = tables.make_lines(rows, {("pre-ln", "12-6"): Published("1", "me")}, {})
    assert [(line.depth, line.method) for line in lines] == [
        ("6-6", "default"),
        ("6-6", "adaptive"),
        ("12-6", "default"),
        ("12-6", "pre-ln"),
        ("18-18", "default"),
    ]


def best(*rows):
    papers = {("pre-ln", "6-6"): Published("99.0", "a paper")}
    return tables.find_best(tables.make_lines(rows, papers, {}))


def test_the_best_is_bold_at_each_depth_and_in_each_measure():
    rows = [
        full_row("a", "default", 1, 30.0, valid_nll=4.0),
        full_row("b", "adaptive", 1, 31.0, valid_nll=5.0),
        full_row("c", "default", 1, 40.0, depth="12-12"),
        full_row("d", "adaptive", 1, 20.0, depth="12-12"),
    ]
    assert best(*rows) == {
        ("6-6", "adaptive", "bleu"),
        ("6-6", "default", "valid_nll"),
        ("12-12", "default", "bleu"),
    }
    assert best(rows[0]) == set(), "nothing to be better than; papers do not compete"
    assert best(*rows[2:]) == {("12-12", "default", "bleu")}


def test_numbers_that_print_alike_are_equally_good():
    rows = [full_row("a", "default", 1, 30.001), full_row("b", "adaptive", 1, 30.004)]
    rows.append(full_row("c", "deepnet", 1, 29.99))
    assert best(*rows) == {("6-6", "default", "bleu"), ("6-6", "adaptive", "bleu")}


def test_a_method_of_which_a_run_diverged_is_never_the_best():
    rows = [full_row("a", "default", 1, 50.0), full_row("b", "adaptive", 1, 30.0)]
    rows.append(full_row("c", "default", 2, None, diverged="at update 1: plateau", valid_nll=1.0))
    assert best(*rows) == {("6-6", "adaptive", "bleu")}


CURVES = {
    "a": [(10, 6.0), (20, 5.0), (30, 4.0)],
    "b": [(10, 4.5), (20, 4.2), (30, 4.1)],
    "c": [(10, 7.0), (20, 4.1), (30, 6.9)],
    "d": [(10, 6.0), (20, float("nan"))],
}


def test_updates_to_the_common_loss_by_hand(tmp_path):
    failed = {"averaged": None, "decoding": None, "diverged": "at update 20: plateau"}
    rows = [row("a", "default", 2, 30.0), row("b", "adaptive", 1, 31.0)]
    rows += [row("c", "default", 1, None, **failed), row("d", "deepnet", 1, None, **failed)]
    rows.append(row("e", "default", 3, 32.0))
    for name, curve in CURVES.items():
        write_log(tmp_path, name, curve)
    results.append(tmp_path / "results.tsv", rows)
    (section,) = sections.build(tmp_path / "results.tsv")
    assert section.common_loss == 4.1, "the larger of 4.0 and 4.1: c and d diverged"
    updates = {line.method: line.updates["the common loss"] for line in section.lines}
    assert updates == {
        "default": ("20", "30", "no log"),  # seeds 1, 2, 3: runs c, a, e
        "pre-ln": (),
        "adaptive": ("30",),
        "deepnet": ("never",),
    }
    assert shown(section)["Post-LN"]["updates to the common loss"] == "20, 30, no log"
    assert document.results_table(section, "", {}).notes[-1] == "Common loss: 4.10 bits a token"


def test_updates_to_losses_of_ones_own(tmp_path):
    rows = [row("a", "default", 1, 30.0), row("b", "adaptive", 1, 31.0)]
    for name in ("a", "b"):
        write_log(tmp_path, name, CURVES[name])
    results.append(tmp_path / "results.tsv", rows)
    write_report(tmp_path / "results.tsv", tmp_path / "out", losses=[5, 4.0])
    lines = {}
    with open(tmp_path / "out" / "report.csv", newline="") as file:
        for line in csv.DictReader(file):
            lines[line["method"]] = line
    found = {
        method: [line[f"updates_to_{loss}"] for loss in ("common_loss", "5_bits", "4_bits")]
        for method, line in lines.items()
    }
    assert found["default"] == ["30", "20", "30"] and found["adaptive"] == ["30", "10", "never"]
    text = (tmp_path / "out" / "report.md").read_text()
    assert "| updates to the common loss | updates to 5 bits | updates to 4 bits |" in text
    assert "| 30 | 10 | never |" in text


def test_there_is_no_common_loss_of_one_run_nor_where_all_diverged():
    rows = [full_row("a", "default", 1, 1.0), full_row("b", "adaptive", 1, 1.0)]
    assert curves.find_common_loss(rows, {"a": CURVES["a"]}) is None
    assert curves.find_common_loss(rows, CURVES) == 4.1
    failed = [{**one, "diverged": "at update 1: plateau"} for one in rows]
    assert curves.find_common_loss(failed, CURVES) is None


def test_validations_without_a_loss_are_passed_over(tmp_path):
    write_log(tmp_path, "a", [(10, "6.5"), (20, "none of it"), (30, "nan"), (40, "5.0")])
    write_log(tmp_path, "b", [])
    log = tmp_path / "a" / "train.log"
    log.write_text(log.read_text() + '| valid | {"valid_loss": "4", "valid_num_updates": "50"}\n')
    rows = [full_row("a", "default", 1, 1.0), full_row("b", "default", 2, 1.0)]
    found = curves.read_curves(rows, tmp_path)
    assert list(found) == ["a"]
    assert [update for update, _ in found["a"]] == [10, 30, 40]
    assert curves.first_update_at(found["a"], 5.0) == 40
    assert list(curves.name_curves(rows, found)) == ["Post-LN 6-6 seed 1"]


def test_significance_is_sacrebleus(table):
    (section,) = sections.build(table)
    (line,) = section.comparisons
    assert line.seed == 1 and line.methods == ("Post-LN", "Admin")
    (references, first), (_, second) = (
        read_generation(table.parent / name / "test.out") for name in ("r0", "r2")
    )
    metric = BLEU(tokenize="none", force=True)
    _, scores = PairedTest(
        [("a", first), ("b", second)], {"BLEU": metric}, [references], "bs", n_samples=1000
    )()
    assert line.p == scores["BLEU"][1].p_value and line.p < 0.05
    (cells,) = document.significance_table(section.comparisons, "").rows
    assert [cell.text for cell in cells] == [
        "6-6",
        "1",
        "Post-LN",
        "Admin",
        f"{scores['BLEU'][0].score:.2f}, {scores['BLEU'][1].score:.2f}",
        "<= 0.001",
    ]
    assert significance.paired_bootstrap(first, first, references, samples=100)[2] == 1
    (table.parent / "r2" / "test.out").unlink()
    assert sections.build(table)[0].comparisons == []


@pytest.mark.parametrize(
    ("p", "samples", "text"),
    [
        (1 / 1001, 1000, "<= 0.001"),
        (2 / 1001, 1000, "0.002"),
        (49.6 / 1001, 1000, "0.050"),
        (1.0, 1000, "1.000"),
        (1 / 101, 100, "<= 0.01"),
        (2 / 101, 100, "0.020"),
    ],
)
def test_p_at_the_floor_that_the_samples_allow(p, samples, text):
    assert significance.format_p(p, samples) == text


def test_outputs_of_two_test_sets_are_not_compared(table):
    output = table.parent / "r2" / "test.out"
    output.write_text(output.read_text().replace("T-0\t", "T-0\tanders ", 1))
    with pytest.raises(AdminError, match="r0 and r2: their outputs of test are of two test sets"):
        sections.build(table)


def test_every_missing_translation_is_named(tmp_path, caplog):
    rows = [row("a", "default", 1, 30.0), row("b", "adaptive", 1, 31.0)]
    write_run(tmp_path, "c", 1, 0.1)
    results.append(tmp_path / "results.tsv", [*rows, row("c", "deepnet", 1, 32.0)])
    with caplog.at_level(logging.WARNING):
        write_report(tmp_path / "results.tsv", tmp_path / "out")
    assert "## Significance" not in (tmp_path / "out" / "report.md").read_text()
    (warning,) = [line for line in caplog.messages if "tested for significance" in line]
    for name in ("a", "b"):
        assert warning.count(f"{name}/test.out") == 1


def test_every_published_number_of_the_recipes_can_be_read(tmp_path):
    found = {path.stem: read_published(path) for path in RECIPES.glob("*.ini")}
    assert found["wmt14_en-de"]["default", "18-18"].number == "failed"
    assert found["wmt14_en-de"]["adaptive", "18-18"].number == "29.03"
    assert found["wmt14_en-fr"]["adaptive", "60-12"].number == "43.80"
    papers = {name for name, numbers in found.items() if numbers}
    corpora = {"iwslt14_de-en", "multi30k_en-de", "wmt14_en-de", "wmt14_en-fr"}
    assert papers >= {*corpora, "wmt14_en-fr-deepnmt"}
    (tmp_path / "x.ini").write_text("[published]\ndefault 6-6 = about 3\nadaptive = 3, me\n")
    with pytest.raises(AdminError) as error:
        read_published(tmp_path / "x.ini")
    assert "default 6-6" in str(error.value) and "adaptive = 3, me" in str(error.value)


def test_recipes_of_ones_own_come_before_the_packages(table, tmp_path, caplog):
    own = tmp_path / "own"
    own.mkdir()
    (own / "iwslt14_de-en.ini").write_text("[published]\npost-ln 6-6 = 12.3, me\n")
    (section,) = sections.build(table, own)
    published = {line.method: line.published for line in section.lines}
    assert published == {"default": Published("12.3", "me"), "adaptive": None}
    assert sections.find_published("wmt14_en-fr", sections.find_recipes(own))
    # the name comes from results.tsv: it does not become a path
    outside = "../own/iwslt14_de-en"
    assert sections.find_published(outside, sections.find_recipes()) == {}
    assert f"no recipe is called {outside}" in caplog.text
    with pytest.raises(AdminError, match="--recipes .*nowhere: not a folder"):
        sections.build(table, tmp_path / "nowhere")


def rate_rows(tmp_path):
    """Post-LN diverges at all rates, Admin at the highest with one of two seeds."""
    ends = {
        ("default", "1e-3"): [(6.5, "x"), (6.6, "x")],
        ("default", "3e-3"): [(6.9, "x"), (None, "x")],
        ("adaptive", "1e-3"): [(1.5, None), (1.7, None)],
        ("adaptive", "3e-3"): [(0.5, None), (6.0, "x")],
    }
    rows = []
    for (init_type, rate), of_seeds in ends.items():
        for seed, (bits, diverged) in enumerate(of_seeds, 1):
            name = f"{init_type}-{rate}-{seed}"
            write_log(tmp_path, name, [(10, bits or 9.0)])
            rows.append(
                row(
                    name, init_type, seed, None, valid_nll=bits, diverged=diverged,
                    variant=f"lr={rate} updates=400",
                )
            )  # fmt: skip
    results.append(tmp_path / "results.tsv", rows)
    return results.read(tmp_path / "results.tsv")


def test_runs_at_several_rates(tmp_path):
    (found,) = rates.collect(rate_rows(tmp_path), {})
    assert found.title == "iwslt14_de-en, 6-6, test, updates=400"
    assert found.rates == (0.001, 0.003) and list(found.runs) == ["default", "adaptive"]
    assert found.best("default") is None and found.best("adaptive") == 0.001
    table = rates.table(found)
    assert [cell.text for cell in table.rows[0]] == [
        "Post-LN", "6.55 ± 0.07; 2 of 2 diverged", "6.90; 2 of 2 diverged", "1 2",
    ]  # fmt: skip
    assert [cell.text for cell in table.rows[1]] == [
        "Admin", "1.60 ± 0.14", "0.50; 1 of 2 diverged", "1 2",
    ]  # fmt: skip
    assert [cell.bold for cell in table.rows[1]] == [False, True, False, False]
    write_report(tmp_path / "results.tsv", tmp_path / "out")
    assert (tmp_path / "out" / "rates-1.png").read_bytes().startswith(b"\x89PNG")
    text = (tmp_path / "out" / "report.md").read_text()
    assert "## Learning rates" in text and "**1.60 ± 0.14**" in text


def test_each_method_at_its_best_rate(tmp_path):
    rows = rate_rows(tmp_path)
    # a third rate with one seed: its mean of one is not compared with means of two
    for rate, bits in (("2e-3", 1.6), ("4e-3", 1.4)):
        write_log(tmp_path, rate, [(5, 1.65), (10, bits)])
        rows.append(
            full_row(
                rate, "adaptive", 1, None, valid_nll=bits, variant=f"lr={rate} updates=400",
                diverged=None if rate == "2e-3" else "x",
            )
        )  # fmt: skip
    results.append(tmp_path / "results.tsv", rows)
    known = sections.Results.of(tmp_path / "results.tsv")
    (found,) = rates.collect(known.rows, {})
    assert found.best("adaptive") == 0.001, "1.5 with seed 1, where 2e-3 has 1.6"
    assert found.best("default") is None and found.least_bad("default") == 0.001
    section = rates.best_section(found, known)
    assert section.key.variant == (
        "best of the learning rates: Post-LN 0.001, Admin 0.001; updates=400"
    )
    assert [(line.method, line.seeds, line.diverged) for line in section.lines] == [
        ("default", (1, 2), 2),
        ("adaptive", (1, 2), 0),
    ]
    assert section.common_loss == 1.7 and set(section.curves) == {
        f"{name} 6-6 seed {seed}" for name in ("Post-LN", "Admin") for seed in (1, 2)
    }
    write_report(tmp_path / "results.tsv", tmp_path / "out")
    text = (tmp_path / "out" / "report.md").read_text()
    assert text.index("Variant A: best of the learning rates") < text.index("Variant B: lr=1e-3")


def test_a_report_of_results_alone_has_the_curves(tmp_path, caplog):
    rows = rate_rows(tmp_path)
    curve = [(5, 3.25), (10, 1.5)]
    gone = full_row("gone", "pre-ln", 1, None, valid_nll=1.5, variant="updates=400", curve=curve)
    results.append(tmp_path / "results.tsv", [*rows, gone])
    read = results.read(tmp_path / "results.tsv")
    assert read[-1]["curve"] == curve and read[0]["curve"] is None
    assert curves.read_curves(read, tmp_path)["gone"] == curve and not caplog.text
    text = (tmp_path / "results.tsv").read_text()
    (tmp_path / "results.tsv").write_text(text.replace("5:3.25", "5:x 3:"))
    with pytest.raises(AdminError, match="line 10, column curve: 'x' is not a loss"):
        results.read(tmp_path / "results.tsv")


def test_tables_of_older_releases_have_no_curves(tmp_path):
    rate_rows(tmp_path)
    lines = (tmp_path / "results.tsv").read_text().splitlines()
    cut = "\n".join(line.rsplit("\t", 2)[0] for line in lines) + "\n"
    (tmp_path / "results.tsv").write_text(cut)
    assert (
        lines[0].endswith("\tcurve\tlr")
        and results.read(tmp_path / "results.tsv")[0]["curve"] is None
    )


def test_the_recipes_own_rate_counts_and_one_rate_is_no_table(tmp_path):
    rows = rate_rows(tmp_path)
    one = [row for row in rows if "1e-3" in row["variant"]]
    assert not rates.collect(one, {})
    plain = full_row("own", "adaptive", 1, None, valid_nll=2.0, variant="updates=400")
    assert not rates.collect([*one, plain], {})
    (found,) = rates.collect([*one, plain], sections.find_recipes())
    assert found.rates == (0.0007, 0.001)


def grid_rows():
    """Without warm-up, a depth, two methods, two optimizers, rates x beta2; some diverged."""
    losses = {"default": None, "adaptive": 2.0}
    rows = []
    for init_type, loss in losses.items():
        for extra in ("", " --optimizer radam"):
            for rate in ("1e-3", "3e-4"):
                for beta2 in ("0.98", "0.999"):
                    for seed in (1, 2):
                        diverged = loss is None or (rate, beta2, seed) == ("1e-3", "0.999", 2)
                        bits = 6.5 if diverged else loss + seed / 10 + (rate == "3e-4")
                        variant = f"no-warmup lr={rate} beta2={beta2} updates=40{extra}"
                        name = f"{init_type}{extra}{rate}{beta2}{seed}"
                        rows.append(
                            full_row(
                                name, init_type, seed, None, valid_nll=bits, variant=variant,
                                diverged="x" if diverged else None,
                            )
                        )  # fmt: skip
    return rows


def test_runs_without_warm_up_are_a_grid(tmp_path):
    results.append(tmp_path / "results.tsv", grid_rows())
    rows = results.read(tmp_path / "results.tsv")
    assert rates.collect(rows, {}) == [], "a grid is no table of rates"
    (grid,) = no_warmup.collect(rows)
    assert grid.title == "iwslt14_de-en, test, no-warmup, updates=40"
    assert grid.rates == (0.0003, 0.001) and grid.beta2s == (0.98, 0.999)
    assert list(grid.runs) == [
        "6-6 Post-LN",
        "6-6 Admin",
        "6-6 Post-LN optimizer radam",
        "6-6 Admin optimizer radam",
    ]
    assert grid.columns == 2, "an optimizer a line"
    for place, of_place in grid.runs["6-6 Admin"].items():
        assert [row["seed"] for row in of_place] == [1, 2]
        for cell in of_place:
            assert f"lr={place[0]:.0e} ".replace("e-0", "e-") in cell["variant"]
            assert f"beta2={place[1]:g} " in cell["variant"]
    table = no_warmup.table(grid)
    shown = [[f"*{cell.text}*" if cell.bold else cell.text for cell in row] for row in table.rows]
    assert shown[:4] == [
        ["6-6 Post-LN", "0.98", *["6.50 ± 0.00; 2 of 2 diverged"] * 2],
        ["6-6 Post-LN", "0.999", *["6.50 ± 0.00; 2 of 2 diverged"] * 2],
        ["6-6 Admin", "0.98", "3.15 ± 0.07", "*2.15 ± 0.07*"],
        ["6-6 Admin", "0.999", "3.15 ± 0.07", "2.10; 1 of 2 diverged"],
    ]
    write_report(tmp_path / "results.tsv", tmp_path / "out")
    assert (tmp_path / "out" / "no-warmup-1.png").read_bytes().startswith(b"\x89PNG")
    text = (tmp_path / "out" / "report.md").read_text()
    assert 0 < text.index("## Without warm-up") < text.index("## Results"), "the overview first"


def test_a_grid_in_which_everything_diverged_can_be_drawn(tmp_path):
    rows = [row for row in grid_rows() if row["init_type"] == "default"]
    results.append(tmp_path / "results.tsv", rows)
    write_report(tmp_path / "results.tsv", tmp_path / "out")
    assert (tmp_path / "out" / "no-warmup-1.png").stat().st_size > 1000
    # neither a number, nor in a grid
    rows[0]["variant"], rows[1]["variant"] = "no-warmup lr=x beta2=0.9", "lr=1 beta2=2"
    assert [no_warmup.place_in_grid(row) for row in rows[:2]] == [None, None]
    assert no_warmup.place_in_grid(rows[2]) == (0.001, 0.999)


def variant_rows():
    losses = {
        "lr=1e-3 updates=40": (1.0, 1.2, 1.1),
        "lr=1e-3 updates=40 profile=shuffled": (1.5, 1.5, None),
        "lr=1e-3 updates=40 --freeze-omega": (1.1, 1.1, 6.0),
    }
    rows = []
    for variant, of_seeds in losses.items():
        for seed, bits in enumerate(of_seeds, 1):
            diverged = "x" if bits is None or bits > 5 else None
            more = dict(valid_nll=bits, variant=variant, diverged=diverged)
            rows.append(full_row(f"{variant}{seed}", "adaptive", seed, None, **more))
    return rows


def test_variants_of_a_method_side_by_side(tmp_path):
    rows = variant_rows()
    other = full_row("o", "default", 1, None, valid_nll=6.0, variant="lr=1e-3 updates=40")
    # the first of many words comes last, wherever it stands in the file
    results.append(tmp_path / "results.tsv", [*rows[3:], *rows[:3], other])
    (found,) = variants.collect(results.read(tmp_path / "results.tsv"))
    assert found.title == "iwslt14_de-en, 6-6, test, lr=1e-3, updates=40"
    table = variants.table(found)
    assert [[cell.text for cell in row] for row in table.rows] == [
        ["Admin", "no other change", "1.10 ± 0.10", "", "1 2 3", "0 of 3"],
        ["Admin", "profile=shuffled", "1.50 ± 0.00 (2 of 3)", "0.40 ± 0.14", "1 2 3", "1 of 3"],
        ["Admin", "--freeze-omega", "1.10 ± 0.00 (2 of 3)", "1.63 ± 2.83", "1 2 3", "1 of 3"],
    ]
    write_report(tmp_path / "results.tsv", tmp_path / "out")
    assert "## Variants" in (tmp_path / "out" / "report.md").read_text()


def test_rates_and_grids_are_no_variants(tmp_path):
    assert variants.collect(rate_rows(tmp_path)) == []
    assert variants.collect(grid_rows()) == []
    longer = [{**row, "variant": row["variant"].replace("40", "90")} for row in variant_rows()[:3]]
    assert variants.collect([*variant_rows()[:3], *longer]) == []


def test_rates_at_which_no_loss_was_finite_are_reported(tmp_path):
    rows = []
    for rate in ("3e-3", "1e-3"):
        variant = f"lr={rate} updates=40"
        rows.append(full_row(rate, "default", 1, None, variant=variant, diverged="x"))
    results.append(tmp_path / "results.tsv", rows)
    write_report(tmp_path / "results.tsv", tmp_path / "out")
    text = (tmp_path / "out" / "report.md").read_text()
    assert "best of the learning rates: Post-LN 0.001; updates=40" in text
