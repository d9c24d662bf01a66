"""The report as Markdown."""

import re
from collections.abc import Sequence

from .blocks import Block, Cell, Facts, Heading, Paragraph, Picture, Table

# what would end a cell, or begin emphasis, a code span, a tag or an entity
_SPECIAL = re.compile(r"[\\|*`]|<(?=[A-Za-z/!?])|&(?=[#\w])")


def escape(text: str) -> str:
    """Return text that Markdown shows as it is."""
    return _SPECIAL.sub(r"\\\g<0>", text)


def render(blocks: Sequence[Block]) -> str:
    """Return blocks as Markdown; pictures are linked."""
    return "\n\n".join(_block(block) for block in blocks) + "\n"


def _block(block: Block) -> str:
    if isinstance(block, Heading):
        return f"{'#' * block.level} {escape(block.text)}"
    if isinstance(block, Paragraph):
        return escape(block.text)
    if isinstance(block, Facts):
        return "\n".join(f"- {escape(name)}: {escape(text)}" for name, text in block.items.items())
    if isinstance(block, Picture):
        return f"![{escape(block.title)}]({block.name})"
    return _table(block)


def _table(table: Table) -> str:
    lines = [
        _line([escape(name) for name in table.columns]),
        _line(["---"] * len(table.columns)),
    ]
    for row in table.rows:
        lines.append(_line([_cell(cell) for cell in row]))
    paragraphs = ["\n".join(lines)]
    paragraphs += [escape(note) for note in table.notes]
    return "\n\n".join(paragraphs)


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _cell(cell: Cell) -> str:
    text = escape(cell.text)
    return f"**{text}**" if cell.bold else text
