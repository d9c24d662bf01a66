"""Figures: full colours, legends that hide no data, and nothing changed by importing them."""

import json
import math
import re
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from admin_fairseq import cli, plots
from admin_fairseq.analysis import growth, tables
from admin_fairseq.analysis.figures import (
    KINDS,
    draw,
    heatmaps,
    histograms,
    norms,
    output_change,
    trace,
)
from admin_fairseq.analysis.figures import stability as stability_figures
from admin_fairseq.analysis.figures.grid import model_label
from admin_fairseq.init_types import METHODS
from tests.helpers import REPOSITORY

MODELS = ("post-ln", "pre-ln", "admin", "deepnet", "rezero", "mine/checkpoint_last.pt")
STACKS = {"encoder": 2, "decoder": 3}
LAYERS = 4


def dependency_rows():
    rows = []
    for model in MODELS[:3]:
        for stack, sites in STACKS.items():
            for i in range(1, sites * LAYERS + 1):
                for j in range(i + 1):
                    rows.append(
                        {"model": model, "stack": stack, "i": i, "j": j, "beta": 1 / (i + j)}
                    )
    return rows


def output_change_rows():
    rows = []
    for number, model in enumerate(MODELS):
        for stack, sites in STACKS.items():
            for perturbation in ("random", "gradient"):
                for depth in (1, 2, 6, 24, 100):
                    for seed in (1, 2):
                        n = depth * sites
                        change = (n if model == "post-ln" else 1 + math.log(n)) * 10**-number * seed
                        rows.append(
                            {
                                "model": model,
                                "stack": stack,
                                "sites": n,
                                "perturbation": perturbation,
                                "seed": seed,
                                "output_change": 0.0 if model == "rezero" else change,
                            }
                        )
    return rows


def gradient_rows(models=MODELS):
    rows = []
    for number, model in enumerate(models):
        for stack, sites in STACKS.items():
            for place in range(sites * LAYERS):
                norm = 0.0 if model == "rezero" else math.exp(place / 3 - number)
                rows.append(
                    {
                        "model": model,
                        "stack": stack,
                        "layer": place // sites,
                        "site": f"{stack}.layers.{place // sites}.{place % sites}",
                        "weights": norm,
                        "output": norm / 3,
                        "layer_weights": 2 * norm,
                    }
                )
    return rows


def update_rows(models=MODELS[:3]):
    """Gradients of many sizes, updates of few; two gradients of the last model are 0."""
    rows = []
    for model in models:
        for stack, sites in STACKS.items():
            for place in range(4 * sites * LAYERS):
                gradient = 10 ** (-place / 8)
                if model == models[-1] and stack == "encoder" and place < 2:
                    gradient = 0.0
                update = 1 / (1 + place % 3)
                row = {"model": model, "stack": stack}
                rows.append({**row, "relative_gradient": gradient, "relative_update": update})
    return rows


def stability_result(finite=True):
    rows = gradient_rows(["post-ln"])
    for place, row in enumerate(rows):
        row["branch"], row["shortcut"] = 2.0 + place % 3, 5.0 - place % 2
    summary = {"output change": {}, "beta": {}}
    if not finite:
        bad = [{key: row[key] for key in ("model", "site", "branch", "shortcut")} for row in rows]
        bad[5]["branch"] = math.nan
        return bad, summary
    for stack, sites in STACKS.items():
        summary["beta"][stack] = [[0.5] * (i + 1) for i in range(1, sites * LAYERS + 1)]
    summary["output change"] = {
        "post-ln": {"encoder": 3.0, "decoder": 2.0},
        "Admin": {"encoder": 1.0, "decoder": 1.0},
    }
    return rows, summary


def trace_rows():
    rows = []
    for update in (10, 20, 30):
        for stack, sites in STACKS.items():
            for place in range(sites * LAYERS):
                for figure in ("omega_mean", "beta", "gradient_norm", "output_std"):
                    site = f"{stack}.layers.{place // sites}.{place % sites}"
                    value = place + update / 100
                    row = {"update": update, "site": site, "figure": figure, "value": value}
                    rows.append(row)
    return rows


def result_of(kind):
    """Rows and summary as an analysis of this kind has them."""
    if kind == "output-change":
        rows = output_change_rows()
        return rows, {"fits": growth.fits(rows)}
    if kind == "stability":
        return stability_result()
    rows = {
        "dependency": dependency_rows,
        "gradients": gradient_rows,
        "updates": update_rows,
        "trace": trace_rows,
    }
    return rows[kind](), None


def curves_figure():
    figure, axes = plots.new_figure(1, 2, width=5, height=3.6)
    curves = {}
    for number in range(8):
        curves[f"run {number}"] = [(u, number % 3 + 100 / u) for u in range(20, 1000, 20)]
    curves["nothing logged"] = []
    plots.draw_curves(axes[0][0], curves, "bits")
    plots.draw_omega(axes[0][1], {"encoder": [1, 1.5, 2], "decoder": [1, 1.5, 2, 2.5]})
    plots.make_room(figure, axes)
    return figure


def figures():
    yield "curves", curves_figure()
    yield "dependency", heatmaps.dependency_figure(dependency_rows())
    rows, summary = result_of("output-change")
    yield "output-change", output_change.output_change_figure(rows, summary["fits"])
    yield "output-change without fits", output_change.output_change_figure(rows[:40])
    yield "gradients", norms.gradients_figure(gradient_rows())
    yield "updates", histograms.updates_figure(update_rows())
    yield "stability", stability_figures.stability_figure(*stability_result())
    yield "not finite", stability_figures.stability_figure(*stability_result(finite=False))
    yield "trace", trace.trace_figure(trace_rows())


@pytest.mark.parametrize("name,figure", figures(), ids=lambda value: str(value)[:30])
def test_no_legend_lies_over_data(name, figure):
    figure.draw_without_rendering()
    legends = list(figure.legends)
    legends += [axis.get_legend() for axis in figure.axes if axis.get_legend() is not None]
    assert legends or name in ("dependency", "trace")
    page = figure.bbox
    for legend in legends:
        box = legend.get_window_extent()
        assert box.x0 >= page.x0 and box.x1 <= page.x1, "wider than the figure"
        assert box.y0 >= page.y0 and box.y1 <= page.y1, "higher than the figure"
        for axis in figure.axes:
            assert not box.overlaps(axis.get_window_extent()), "over a panel"
            for line in axis.lines:
                points = axis.transData.transform(line.get_xydata())
                inside = [point for point in points if box.contains(*point)]
                assert not inside


def test_heatmaps_have_colour_bars():
    for figure in (
        heatmaps.dependency_figure(dependency_rows()),
        stability_figures.stability_figure(*stability_result()),
    ):
        assert heatmaps.BETA in [axis.get_ylabel() for axis in figure.axes]


def test_lines_that_coincide_differ_in_all_looks():
    looks = [style for style, _ in zip(plots.line_styles(), range(4))]
    for name in ("color", "marker", "linestyle", "linewidth"):
        assert len({str(look[name]) for look in looks}) == 4
    assert len({plots.spread_markers(60, number)[0] for number in range(4)}) == 4


def test_the_better_law_stands_out():
    rows = output_change_rows()
    figure = output_change.output_change_figure(rows, growth.fits(rows))
    labels = [text.get_text() for text in figure.axes[2].get_legend().get_texts()]
    assert any(re.match(r"Post-LN: \$O\(N\)\$ \$\\mathbf\{1\.000\}\$", label) for label in labels)
    assert any(re.match(r"Admin: .*\\log N\)\$ \$\\mathbf\{1\.000\}\$", label) for label in labels)
    assert "ReZero" not in " ".join(labels), "it does not move"


def test_histograms_count_every_matrix():
    """Against numpy, in the same bins; what is 0 is told, and drawn nowhere."""
    rows = update_rows()
    panels = iter(histograms.updates_figure(rows).axes)
    for stack in STACKS:
        for model in MODELS[:3]:
            axis = next(panels)
            mine = [row for row in rows if (row["model"], row["stack"]) == (model, stack)]
            for patch, what in zip(axis.patches, ("gradient", "update")):
                counts, edges, _ = patch.get_data()
                assert edges[-1] == 1 and math.log10(edges[0]) == pytest.approx(-6)
                norms = np.array([row[f"relative_{what}"] for row in mine])
                # edges are powers of ten, and so are some norms: rounding must not decide
                expected = np.histogram(norms, np.array(edges) * (1 - 1e-9))[0]
                expected[-1] += (norms == 1).sum()
                assert list(counts) == list(expected) and counts.sum() == (norms > 0).sum()
            told = "2 of 32 gradients are 0" in axis.get_title()
            assert told == (model == MODELS[2] and stack == "encoder")


def test_histograms_of_norms_that_are_all_alike():
    rows = [{"model": "a", "stack": "encoder", "relative_gradient": 0.0, "relative_update": 1.0}]
    (axis,) = histograms.updates_figure(rows).axes
    assert [sum(patch.get_data()[0]) for patch in axis.patches] == [0, 1]


def test_labels_of_models():
    for method in METHODS:
        assert model_label(method.name) == method.label
    assert model_label("admin") == "Admin" and model_label("rezero-postln") == "ReZero Post-LN"
    assert model_label("a/x.pt") == "a/x.pt" and model_label("at $5") == r"at \$5"


@pytest.mark.parametrize("kind", KINDS)
def test_full_colours_and_the_same_bytes(kind, tmp_path):
    rows, summary = result_of(kind)
    for name in ("a", "b"):
        draw(kind, str(tmp_path / name), rows, summary)
    with Image.open(tmp_path / "a.png") as image:
        assert image.mode in ("RGB", "RGBA")
    for ending in ("png", "pdf"):
        drawn = [(tmp_path / f"{name}.{ending}").read_bytes() for name in ("a", "b")]
        assert drawn[0] == drawn[1]


@pytest.mark.parametrize("kind", KINDS)
def test_redraw(kind, tmp_path):
    """The saved numbers give the figure that the analysis drew."""
    rows, summary = result_of(kind)
    prefix = str(tmp_path / "x")
    tables.write(prefix, rows, {"command": f"admin-fairseq analyze {kind} 'my data-bin'"}, summary)
    draw(kind, prefix, rows, summary)
    drawn = (tmp_path / "x.png").read_bytes()
    (tmp_path / "x.png").unlink()
    assert cli.main(["analyze", "redraw", f"{prefix}.json"]) == 0
    assert (tmp_path / "x.png").read_bytes() == drawn


def test_redraw_of_a_model_that_is_not_finite(tmp_path):
    rows, summary = stability_result(finite=False)
    command = {"command": "admin-fairseq analyze stability data-bin"}
    tables.write(str(tmp_path / "s"), rows, command, summary)
    assert cli.main(["analyze", "redraw", str(tmp_path / "s")]) == 0
    assert math.isnan(tables.read(str(tmp_path / "s.json"))[1][5]["branch"])


def test_redraw_refuses_what_no_analysis_wrote(tmp_path, capsys):
    command = "admin-fairseq analyze dancing data-bin"
    documents = {
        "text": "hello",
        "list": "[]",
        "other": json.dumps({"provenance": {"command": command}, "rows": [], "summary": None}),
    }
    for name, text in documents.items():
        (tmp_path / f"{name}.json").write_text(text)
    for name in ("none", *documents):
        assert cli.main(["analyze", "redraw", str(tmp_path / name)]) == 1
        error = capsys.readouterr().err
        assert f"{name}.json" in error and "Traceback" not in error


def test_formats_and_places(tmp_path):
    def drawing(axis):
        plots.draw_omega(axis, {"encoder": [1, 2]})

    plots.save_figure(tmp_path / "plain", drawing)
    assert (tmp_path / "plain.png").read_bytes().startswith(b"\x89PNG")
    plots.save_figure(tmp_path / "x.svg", drawing)
    with pytest.raises(ValueError):
        plots.save_figure(tmp_path / "x.nosuch", drawing)
    with pytest.raises(OSError):
        plots.save_figure(tmp_path / "plain.png" / "x.png", drawing)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["plain.png", "x.svg"]


@pytest.mark.subprocess
def test_importing_changes_no_backend_and_imports_no_torch(tmp_path):
    """As our own command does, and then somebody's notebook."""
    code = """
import sys
sys.argv = ["admin-fairseq"]
from admin_fairseq import plots
from admin_fairseq.analysis import figures
heavy = [name for name in ("torch", "fairseq", "matplotlib") if name in sys.modules]
assert not heavy, heavy
import matplotlib
matplotlib.use("svg")
plots.save_figure(sys.stdin.read() + "/x.png", lambda axis: plots.draw_omega(axis, {"a": [1, 2]}))
assert matplotlib.get_backend() == "svg"
assert "matplotlib.pyplot" not in sys.modules and "torch" not in sys.modules
"""
    command = [sys.executable, "-c", code]
    subprocess.run(command, check=True, cwd=REPOSITORY, text=True, input=str(tmp_path))
