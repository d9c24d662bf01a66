r"""The tables of the report for LaTeX: one ``table`` each, to be read with ``\input``."""

import re
from collections.abc import Sequence

from ...errors import printable
from .blocks import Block, Cell, Paragraph, Table

_HEAD = r"""% Tables of an admin-fairseq report. The preamble needs:
%   \usepackage[T1]{fontenc}
%   \usepackage{booktabs,textcomp}
"""
_TABLE = r"""\begin{{table}}
\centering
\caption{{{title}}}
\begin{{tabular}}{{{alignment}}}
\toprule
{head} \\
\midrule
{body}
\bottomrule
\end{{tabular}}
{notes}\end{{table}}
"""
_ESCAPES = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "$": r"\$",
    "&": r"\&",
    "#": r"\#",
    "%": r"\%",
    "_": r"\_",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': r"\textquotedbl{}",
    "'": r"\textquotesingle{}",
    "`": r"\textasciigrave{}",
    "±": r"$\pm$",
    "<=": r"$\leq$",
    # LaTeX would join the hyphens of a flag, such as --lr, to a dash
    "-": "-{}",
}
# <= before <, which is special alone as well
_SPECIAL = re.compile(r"<=|-(?=-)|[\\{}$&#%_~^<>|\"'`±]")


def escape(text: str) -> str:
    """Return text that LaTeX prints as it is; characters that cannot be printed are spelled out."""
    return _SPECIAL.sub(lambda match: _ESCAPES[match[0]], printable(text))


def render(blocks: Sequence[Block]) -> str:
    """Return the tables among the blocks, and what explains them as comments."""
    parts = [_HEAD]
    for block in blocks:
        if isinstance(block, Paragraph):
            parts.append(f"% {block.text}\n")
        elif isinstance(block, Table):
            parts.append(_table(block))
    return "\n".join(parts)


def _table(table: Table) -> str:
    notes = [f"\\par\\footnotesize {escape(note)}\n" for note in table.notes]
    return _TABLE.format(
        title=escape(table.title),
        alignment="l" * len(table.columns),
        head=" & ".join(escape(name) for name in table.columns),
        body="\n".join(_body(table)),
        notes="".join(notes),
    )


def _body(table: Table) -> list[str]:
    """Return the lines of a table, with more space before each new entry of its first column."""
    lines = []
    before = table.rows[0]
    for row in table.rows:
        if row[0].text != before[0].text:
            lines.append(r"\addlinespace")
        lines.append(_row(row))
        before = row
    return lines


def _row(row: Sequence[Cell]) -> str:
    text = " & ".join(_cell(cell) for cell in row) + r" \\"
    # behind the \\ of the line before, LaTeX would take these for its arguments
    return "{}" + text if text.startswith(("[", "*")) else text


def _cell(cell: Cell) -> str:
    text = escape(cell.text)
    return rf"\textbf{{{text}}}" if cell.bold else text
