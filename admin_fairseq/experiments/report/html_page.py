"""The report as one HTML page that needs no network and no script."""

import base64
from collections.abc import Sequence
from html import escape
from pathlib import Path

from .blocks import Block, Cell, Facts, Heading, Paragraph, Picture, Table

_STYLE = """
body { font: 15px/1.45 sans-serif; max-width: 72em; margin: 2em auto; padding: 0 1em }
table { border-collapse: collapse; margin: 1em 0; display: block; overflow-x: auto }
td, th { border: 1px solid #999; padding: .25em .6em; text-align: left }
dt { font-weight: bold }
img { max-width: 100% }
.note { color: #444; font-size: 90%; overflow-wrap: anywhere }
"""
_PAGE = """<!DOCTYPE html>
<html lang="en">
<head><meta charset="utf-8"/><title>Report</title><style>{style}</style></head>
<body>
{body}
</body>
</html>
"""


def render(blocks: Sequence[Block], folder: Path) -> str:
    """Return blocks as a page.

    Args:
        blocks: of the report.
        folder: has the pictures, which go into the page.
    """
    body = "\n".join(_block(block, folder) for block in blocks)
    return _PAGE.format(style=_STYLE, body=body)


def _block(block: Block, folder: Path) -> str:
    if isinstance(block, Heading):
        return f"<h{block.level}>{escape(block.text)}</h{block.level}>"
    if isinstance(block, Paragraph):
        return f"<p>{escape(block.text)}</p>"
    if isinstance(block, Facts):
        return _facts(block)
    if isinstance(block, Picture):
        return _picture(block, folder)
    return _table(block)


def _facts(facts: Facts) -> str:
    lines = ["<dl>"]
    for name, text in facts.items.items():
        lines.append(f"<dt>{escape(name)}</dt><dd>{escape(text)}</dd>")
    return "\n".join([*lines, "</dl>"])


def _picture(picture: Picture, folder: Path) -> str:
    data = base64.b64encode((folder / picture.name).read_bytes()).decode()
    return f'<p><img alt="{escape(picture.title)}" src="data:image/png;base64,{data}"/></p>'


def _table(table: Table) -> str:
    head = "".join(f"<th>{escape(name)}</th>" for name in table.columns)
    lines = ["<table>", f"<tr>{head}</tr>"]
    for row in table.rows:
        lines.append(f"<tr>{''.join(_cell(cell) for cell in row)}</tr>")
    lines.append("</table>")
    lines += [f'<p class="note">{escape(note)}</p>' for note in table.notes]
    return "\n".join(lines)


def _cell(cell: Cell) -> str:
    text = escape(cell.text)
    return f"<td><strong>{text}</strong></td>" if cell.bold else f"<td>{text}</td>"
