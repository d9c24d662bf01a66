"""The report: means, counts and significance against other code, and a page that needs no network."""

import html.parser
import random

import numpy as np
import pytest
from sacrebleu.metrics import BLEU
from sacrebleu.significance import PairedTest

from admin_fairseq.errors import AdminError
from admin_fairseq.experiments import results
from admin_fairseq.experiments.recipe import RECIPES, read_published
from admin_fairseq.experiments.report import page as report_page
from admin_fairseq.experiments.report import significance
from admin_fairseq.experiments.report import tables as report
from tests.helpers import REPOSITORY

WORDS = ["ein", "Hund", "läuft", "über", "die", "Wiese", "und", "bellt"]


def write_run(folder, name, seed, wrong):
    """A run's log and translation; ``wrong``: share of words that are wrong."""
    rng, references = random.Random(seed), random.Random(7)
    (folder / name).mkdir()
    lines = []
    for number in range(60):
        reference = [references.choice(WORDS) for _ in range(8)]
        hypothesis = [word if rng.random() > wrong else "x" for word in reference]
        lines += [f"T-{number}\t{' '.join(reference)}", f"H-{number}\t-0.5\t{' '.join(hypothesis)}"]
    (folder / name / "test.out").write_text("\n".join(lines) + "\n")
    record = '| valid | {"valid_loss": "5", "valid_nll_loss": "%s", "valid_num_updates": "%d"}\n'
    (folder / name / "train.log").write_text(record % (6.5, 10) + record % (4.5, 20))


def row(run, init_type, seed, bleu, **more):
    return {
        "run": run,
        "data": "iwslt14_de-en",
        "subset": "test",
        "init_type": init_type,
        "depth": "6-6",
        "seed": seed,
        "bleu": bleu,
        "averaged": "last 10 epochs",
        "decoding": "beam 5",
        **more,
    }


@pytest.fixture
def table(tmp_path):
    rows = []
    for number, (init_type, seed, wrong) in enumerate(
        [("default", 1, 0.4), ("default", 2, 0.4), ("adaptive", 1, 0.1)]
    ):
        write_run(tmp_path, f"r{number}", number, wrong)
        rows.append(row(f"r{number}", init_type, seed, 30.0 + 1.7 * number))
    rows.append(
        row(
            "r<b>",
            "default",
            3,
            None,
            diverged='at update 9: non-finite <loss> & "more"',
            averaged=None,
            decoding=None,
        )
    )
    results.append(tmp_path / "results.tsv", rows)
    return tmp_path / "results.tsv"


@pytest.mark.parametrize("values", [[], [3.25], [1.0, 2.0, 4.5], [35.64, 35.5, 35.67, 35.1, 35.9]])
def test_mean_and_deviation_against_numpy(values):
    text = report.mean_sd(values)
    if len(values) > 1:
        assert text == f"{np.mean(values):.2f} ± {np.std(values, ddof=1):.2f}"
    else:
        assert text == "".join(f"{value:.2f}" for value in values)


def test_ours_stands_beside_the_papers(table):
    (section,) = report.build(table, RECIPES)
    lines = {line["init type"]: line for line in section["table"]}
    assert list(lines) == ["default", "pre-ln", "adaptive"]
    assert (
        lines["default"]["published"] == "35.64 ± 0.23"
        and lines["default"]["tokenised BLEU"] == "30.85 ± 1.20"
    )
    assert lines["default"]["diverged"] == "1 of 3" and lines["default"]["seeds"] == "1 2 3"
    assert (
        lines["adaptive"]["tokenised BLEU"] == "33.40" and lines["adaptive"]["diverged"] == "0 of 1"
    )
    empty = lines["pre-ln"]
    assert empty["published"] == "35.50 ± 0.04"
    assert not any(
        empty[name]
        for name in (*results.MEASURES.values(), "seeds", "diverged", "validation nll, bits")
    )


def test_significance_is_sacrebleus(table):
    (section,) = report.build(table, RECIPES)
    (line,) = section["comparisons"]
    assert line["seed"] == "1" and line["init types"] == "default, adaptive"
    from admin_fairseq.logs import read_generation

    (references, first), (_, second) = (
        read_generation(table.parent / name / "test.out") for name in ("r0", "r2")
    )
    metric = BLEU(tokenize="none", force=True)
    _, scores = PairedTest(
        [("a", first), ("b", second)], {"BLEU": metric}, [references], "bs", n_samples=1000
    )()
    assert line["p"] == f"{scores['BLEU'][1].p_value:.4f}" and float(line["p"]) < 0.05
    assert significance.paired_bootstrap(first, first, references, samples=100)[2] == 1
    (table.parent / "r2" / "test.out").unlink()
    assert report.build(table, RECIPES)[0]["comparisons"] == []


class Page(html.parser.HTMLParser):
    """Counts that tags close in order, and collects what a browser would fetch."""

    def __init__(self, text):
        super().__init__()
        self.open, self.fetched, self.text = [], [], ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attributes):
        assert tag not in ("script", "b"), "text was not escaped"
        self.fetched += [
            value for name, value in attributes if name in ("src", "href", "srcset", "data")
        ]
        self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.handle_starttag(tag, attributes)
        self.open.pop()

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data


def test_the_page_stands_alone(table, tmp_path):
    report_page.write(table, tmp_path / "out", RECIPES)
    text = (tmp_path / "out" / "report.html").read_text()
    page = Page(text)
    assert page.open == [] and len(page.fetched) == 1
    assert all(address.startswith("data:image/png;base64,") for address in page.fetched)
    assert "url(" not in text and "@import" not in text
    assert 'non-finite <loss> & "more"' in page.text
    markdown = (tmp_path / "out" / "report.md").read_text()
    assert "| 6-6 | pre-ln | 35.50 ± 0.04 |  |  |" in markdown
    assert {path.suffix for path in (tmp_path / "out").iterdir()} == {".png", ".md", ".html"}


def test_every_published_number_of_the_recipes_can_be_read(tmp_path):
    found = {path.stem: read_published(path) for path in RECIPES.glob("*.ini")}
    assert found["wmt14_en-de"]["default", "18-18"].number == "failed"
    assert found["wmt14_en-de"]["adaptive", "18-18"].number == "29.03"
    assert found["wmt14_en-fr"]["adaptive", "60-12"].number == "43.80"
    assert len(found) == 4 and all(found.values())
    (tmp_path / "x.ini").write_text("[published]\ndefault 6-6 = about 3\nadaptive = 3, me\n")
    with pytest.raises(AdminError) as error:
        read_published(tmp_path / "x.ini")
    assert "default 6-6" in str(error.value) and "adaptive = 3, me" in str(error.value)
