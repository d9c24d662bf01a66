"""The report as Markdown, HTML, LaTeX and CSV: order, escaping, and pages that need no network."""

import csv
import html.parser
import re
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from admin_fairseq.cli import main
from admin_fairseq.errors import AdminError, printable
from admin_fairseq.experiments import results
from admin_fairseq.experiments.report import curves, document, html_page, latex, markdown, sections
from admin_fairseq.experiments.report.blocks import Cell, Facts, Table
from admin_fairseq.experiments.report.write import write_report
from tests.experiments.report_runs import row, write_log, write_table
from tests.helpers import REPOSITORY

TEXTS = st.text(st.characters(blacklist_categories=("Cs", "Cc", "Zl", "Zp")), max_size=30)


@pytest.fixture
def table(tmp_path):
    return write_table(tmp_path)


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
    write_report(table, tmp_path / "out")
    text = (tmp_path / "out" / "report.html").read_text()
    page = Page(text)
    assert page.open == [] and len(page.fetched) == 1
    assert all(address.startswith("data:image/png;base64,") for address in page.fetched)
    assert "url(" not in text and "@import" not in text
    assert 'non-finite <loss> & "more"' in page.text
    written = (tmp_path / "out" / "report.md").read_text()
    assert "| 6-6 | Pre-LN | 35.50 ± 0.04 |  |  |" in written
    assert {path.suffix for path in (tmp_path / "out").iterdir()} == {
        ".png",
        ".md",
        ".html",
        ".tex",
        ".csv",
    }


def test_a_folder_that_cannot_be_written_is_named(table, tmp_path):
    (tmp_path / "out").write_text("a file")
    with pytest.raises(AdminError, match="--out .*out: cannot be written"):
        write_report(table, tmp_path / "out")


def test_results_come_first_and_provenance_last(table, tmp_path):
    write_report(table, tmp_path / "out")
    heading = "iwslt14_de-en, test, last 10 epochs, beam 5"
    text = (tmp_path / "out" / "report.md").read_text()
    assert re.findall(r"^#+ .*", text, re.M) == [
        "# Report",
        "## Results",
        f"### {heading}",
        "## Significance",
        f"### {heading}",
        "## Learning curves",
        f"### {heading}",
        "## Provenance",
        f"### {heading}",
    ]
    (picture,) = (tmp_path / "out").glob("*.png")
    assert f"![Learning curves: {heading}]({picture.name})" in text
    assert "| 6-6 | 1 | Post-LN | Admin |" in text and "| <= 0.001 |" in text
    provenance = text[text.index("## Provenance") :]
    assert r'Post-LN 6-6 seed 3 at update 9: non-finite \<loss> & "more"' in provenance


def test_variants_have_short_names_and_a_legend(tmp_path):
    flags = "--lr 3e-4 --weight-decay 0.1"
    rows = [row("a", "default", 1, 30.0), row("b", "default", 1, 30.0, variant=flags)]
    rows.append(row("c", "default", 1, 30.0, variant="no-warmup"))
    rows.append(row("d", "default", 1, 30.0, variant=flags, subset="test1"))
    results.append(tmp_path / "results.tsv", rows)
    built = sections.build(tmp_path / "results.tsv")
    blocks = document.compose(built, {})
    titles = [block.title for block in blocks if isinstance(block, Table)]
    assert titles == [
        "Results: iwslt14_de-en, test, last 10 epochs, beam 5",
        "Results: iwslt14_de-en, test, variant A, last 10 epochs, beam 5",
        "Results: iwslt14_de-en, test, variant B, last 10 epochs, beam 5",
        "Results: iwslt14_de-en, test1, variant A, last 10 epochs, beam 5",
    ]
    notes = [block.notes for block in blocks if isinstance(block, Table)]
    assert notes[1:] == [[f"Variant A: {flags}"], ["Variant B: no-warmup"], [f"Variant A: {flags}"]]
    many = [document._letters(number) for number in range(28)]
    assert many[0] == "A" and many[25:] == ["Z", "AA", "AB"]


def test_several_sources_of_published_numbers_are_numbered(tmp_path):
    results.append(tmp_path / "results.tsv", [row("a", "admin", 1, 30.0, data="wmt14_en-de")])
    (section,) = sections.build(tmp_path / "results.tsv")
    printed = document.results_table(section, "", {})
    numbers = {(line[0].text, line[1].text): line[2].text for line in printed.rows}
    assert numbers["18-18", "Post-LN"] == "failed [1]"
    assert numbers["60-12", "Admin"] == "30.1 (settings unknown) [2]"
    assert printed.notes == ["Published: [1] Liu et al. 2020; [2] arXiv 2008.07772"]


BOLD = Table(
    "a_b",
    ["depth", "50% & more"],
    [
        [Cell("6-6"), Cell("30.00 ± 0.10", bold=True)],
        [Cell("6-6"), Cell("29.00")],
        [Cell("18-18"), Cell("28.00")],
    ],
    ["--lr 3e-4"],
)


def test_bold_in_every_format(tmp_path):
    assert markdown.render([BOLD]) == (
        "| depth | 50% & more |\n| --- | --- |\n| 6-6 | **30.00 ± 0.10** |\n| 6-6 | 29.00 |\n"
        "| 18-18 | 28.00 |\n\n"
        "--lr 3e-4\n"
    )
    page = html_page.render([BOLD], tmp_path)
    assert "<tr><td>6-6</td><td><strong>30.00 ± 0.10</strong></td></tr>" in page
    assert "<th>50% &amp; more</th>" in page
    assert latex.render([BOLD]).endswith(
        r"""
\begin{table}
\centering
\caption{a\_b}
\begin{tabular}{ll}
\toprule
depth & 50\% \& more \\
\midrule
6-6 & \textbf{30.00 $\pm$ 0.10} \\
6-6 & 29.00 \\
\addlinespace
18-18 & 28.00 \\
\bottomrule
\end{tabular}
\par\footnotesize -{}-lr 3e-4
\end{table}
"""
    )


@pytest.mark.parametrize(
    ("text", "escaped"),
    [
        ("iwslt14_de-en", r"iwslt14\_de-en"),
        (r"50% of $5 & #1 {x} \y", r"50\% of \$5 \& \#1 \{x\} \textbackslash{}y"),
        ("a~b^c|d", r"a\textasciitilde{}b\textasciicircum{}c\textbar{}d"),
        ("<b> <= 0.001", r"\textless{}b\textgreater{} $\leq$ 0.001"),
        ('"it\'s"`', r"\textquotedbl{}it\textquotesingle{}s\textquotedbl{}\textasciigrave{}"),
        ("---lr", r"-{}-{}-lr"),
        ("35 ± 1", r"35 $\pm$ 1"),
        ("bell\x07", r"bell\textbackslash{}x07"),
    ],
)
def test_latex_prints_text_as_it_is(text, escaped):
    assert latex.escape(text) == escaped


BACK = sorted(((text, character) for character, text in latex._ESCAPES.items()), reverse=True)


@given(TEXTS | st.text("\\{}$&#%_~^<=>|\"'`±-", max_size=20))
def test_escaping_for_latex_loses_nothing(text):
    escaped = latex.escape(text)
    found, at = "", 0
    while at < len(escaped):
        for command, character in BACK:
            if escaped.startswith(command, at):
                found, at = found + character, at + len(command)
                break
        else:
            # what is no command of ours must be a character that LaTeX prints
            assert escaped[at] not in "\\{}$&#%_~^<>|\"'`±"
            found, at = found + escaped[at], at + 1
    assert found == printable(text)
    assert "--" not in escaped


@given(TEXTS | st.text("\\|<>*`&#;ab!/?", max_size=20))
def test_text_stays_in_its_cell_in_markdown(text):
    (line,) = re.findall(r"^\| 1 \| .*$", markdown.render([_one_cell(text)]), re.M)
    # GitHub's rule: a backslash and the punctuation after it are one character of the cell
    cells = re.findall(r"(?:\\[!-/:-@\[-`{-~]|[^|])+", line.removeprefix("| 1 |").removesuffix("|"))
    assert cells == [f" {markdown.escape(text)} "]
    assert re.sub(r"\\([\\|*`<&])", r"\1", markdown.escape(text)) == text


@given(TEXTS | st.text("<>&\"'/bscript!-", max_size=20))
def test_text_stays_text_in_html(text):
    page = Page(html_page.render([_one_cell(text), Facts({text: text})], REPOSITORY))
    assert page.open == [] and page.fetched == []
    assert page.text.count(text) >= 3


def _one_cell(text):
    return Table("t", ["number", "text"], [[Cell("1"), Cell(text)]])


def test_csv_has_plain_numbers(table, tmp_path):
    write_report(table, tmp_path / "out")
    with open(tmp_path / "out" / "report.csv", newline="") as file:
        lines = {line["method"]: line for line in csv.DictReader(file)}
    post_ln = lines["default"]
    shared = [post_ln[name] for name in ("data", "variant", "subset", "averaged", "decoding")]
    assert shared == ["iwslt14_de-en", "", "test", "last 10 epochs", "beam 5"]
    assert float(post_ln["bleu_mean"]) == 30.85
    assert float(post_ln["bleu_sd"]) == pytest.approx(1.2020815)
    counts = [post_ln[name] for name in ("bleu_n", "n_seeds_run", "n_diverged", "seeds")]
    assert counts == ["2", "3", "1", "1;2;3"]
    assert post_ln["common_loss"] == "4.5"
    assert post_ln["updates_to_common_loss"] == "20;20;no log"
    published = [name for name in post_ln if name.startswith("published_")]
    assert [post_ln[name] for name in published] == [
        "35.64",
        "0.23",
        "0",
        "Liu et al. 2020 (5 seeds)",
    ]
    assert post_ln["settings_known"] == "1"
    assert (lines["adaptive"]["bleu_mean"], lines["adaptive"]["bleu_sd"]) == ("33.4", "")
    assert (lines["pre-ln"]["bleu_mean"], lines["pre-ln"]["n_seeds_run"]) == ("", "0")


@pytest.mark.subprocess
def test_the_command_works_in_an_empty_folder_and_imports_little(tmp_path):
    rows = [row("a", "default", 1, 30.0), row("b", "adaptive", 2, 31.0)]
    results.append(tmp_path / "results.tsv", rows)
    code = (
        "import sys; sys.argv[0] = 'admin-fairseq'\n"
        "from admin_fairseq.cli import main\n"
        "code = main(['report', 'results.tsv', '--out', 'out'])\n"
        "heavy = {'torch', 'fairseq', 'numpy', 'matplotlib', 'sacrebleu'} & set(sys.modules)\n"
        "sys.exit(f'imported {heavy}' if heavy else code)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr

    assert "| 6-6 | Post-LN | 35.64 ± 0.23 | 30.00 |" in (tmp_path / "out/report.md").read_text()


def test_curves_of_logs_and_folders_are_drawn_without_results(tmp_path, monkeypatch):
    write_log(tmp_path, "one", [(10, 6.5), (20, 4.5)])
    write_log(tmp_path, "empty", [])
    drawn = {}
    monkeypatch.setattr(curves, "draw", lambda path, found: drawn.update({path: found}))
    out = tmp_path / "curves.png"
    words = [f"Admin={tmp_path / 'one'}", f"same={tmp_path / 'one' / 'train.log'}"]
    assert main(["curves", "--out", str(out), *words]) == 0
    assert drawn == {out: dict.fromkeys(["Admin", "same"], [(10, 6.5), (20, 4.5)])}


def test_curves_that_cannot_be_drawn_are_all_named(tmp_path, capsys):
    write_log(tmp_path, "one", [(10, 6.5)])
    write_log(tmp_path, "empty", [])
    one, empty = tmp_path / "one", tmp_path / "empty"
    words = [f"A={one}", f"A={one}", f"B={empty}", f"C={tmp_path / 'none'}", str(one)]
    assert main(["curves", "--out", str(tmp_path / "curves.png"), *words]) == 1
    said = capsys.readouterr().err
    assert "A appears twice" in said and f"B={empty}: " in said and "C=" in said
    assert f"{one}: must be NAME=RUN" in said
    assert not (tmp_path / "curves.png").exists()
    assert main(["curves", "--out", str(tmp_path / "curves.txt"), f"A={one}"]) == 1
    assert "curves.txt: Format 'txt' is not supported" in capsys.readouterr().err
    assert main(["curves", "--out", str(tmp_path / "x.png"), f"A={one}/train.log/x"]) == 1
    assert "is missing, or has no validation" in capsys.readouterr().err
