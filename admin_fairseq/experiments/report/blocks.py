"""What a report is made of, without a format: headings, texts, tables, pictures."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Union


@dataclass(frozen=True)
class Heading:
    """A heading of level 1 (the report) to 3 (a section)."""

    level: int
    text: str


@dataclass(frozen=True)
class Paragraph:
    """Running text."""

    text: str


@dataclass(frozen=True)
class Facts:
    """A list of names with their texts."""

    items: Mapping[str, str]


@dataclass(frozen=True)
class Cell:
    """A cell of a table."""

    text: str
    bold: bool = False


@dataclass(frozen=True)
class Table:
    """A table; ``title`` is for formats in which it stands without its heading."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    notes: Sequence[str] = field(default_factory=list)


@dataclass(frozen=True)
class Picture:
    """A picture in the report's folder."""

    name: str
    title: str


Block = Union[Heading, Paragraph, Facts, Table, Picture]
