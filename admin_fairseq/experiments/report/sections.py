"""results.tsv -> sections: what may stand in one table, and all that belongs to it."""

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Optional, Union

from ...errors import AdminError
from .. import results
from ..published import Published
from ..recipe import RECIPES, read_recipe
from . import curves, significance
from .tables import Line, Row, canonical, label, make_lines

logger = logging.getLogger(__name__)

COMMON_LOSS = "the common loss"  # a target of updates, beside those that the user names
# columns of results.tsv that say how a section's numbers came about
PROVENANCE = ("updates", "tokens_per_update", "hardware", "commit", "versions", "wall_clock")


class Key(NamedTuple):
    """What all runs of one table have in common; texts, empty where results.tsv has nothing."""

    data: str
    variant: str
    subset: str
    averaged: str
    decoding: str


@dataclass(frozen=True)
class Section:
    """One table, and what belongs to it.

    Attributes:
        common_loss: what all runs that did not diverge reached in the end, in bits a token.
        targets: the losses that the lines have updates to, as text, such as ``0.5 bits``.
        curves: the runs' validation curves, by the name that a figure gives them.
        facts: where the numbers come from: name -> text.
    """

    key: Key
    lines: list[Line]
    common_loss: Optional[float]
    targets: tuple[str, ...]
    comparisons: list[significance.Comparison]
    curves: dict[str, curves.Curve]
    facts: dict[str, str]


def build(path: Union[str, Path], recipes: Union[str, Path, None] = None) -> list[Section]:
    """Return the sections of a report, in the order of results.tsv.

    Args:
        path: results.tsv.
        recipes: a folder of recipe files whose published numbers come before the package's.

    Raises:
        AdminError: if results.tsv or a recipe cannot be read, or there are no results.
    """
    return Results.of(path, recipes).sections()


@dataclass(frozen=True)
class Results:
    """What a report is made of.

    Attributes:
        rows: of results.tsv, at least one.
        files: name -> recipe file.
        curves: run -> its validation curve.
        translations: of the runs, for the paired tests.
        losses: in bits a token: tables have the updates to each, beside those to the common one.
    """

    rows: list[Row]
    files: dict[str, Path]
    curves: dict[str, curves.Curve]
    translations: significance.Translations
    losses: tuple[float, ...] = ()

    @classmethod
    def of(
        cls,
        path: Union[str, Path],
        recipes: Union[str, Path, None] = None,
        losses: Sequence[float] = (),
    ) -> "Results":
        """Read a results.tsv; arguments and errors are those of :func:`build`."""
        rows = results.read(path)
        if not rows:
            raise AdminError(f"{path}: no results in it yet: admin-fairseq evaluate writes them")
        folder = Path(path).resolve().parent
        # once for all tables: a run is in one for each test set
        return cls(
            rows,
            find_recipes(recipes),
            curves.read_curves(rows, folder),
            significance.Translations(folder),
            tuple(losses),
        )

    def sections(self) -> list[Section]:
        """Return a section for each table of :func:`group`."""
        return [self.section(key, mine) for key, mine in group(self.rows).items()]

    def section(self, key: Key, mine: Sequence[Row]) -> Section:
        """Return one table of some of the rows, and all that belongs to it."""
        # the papers' numbers are of the recipe as it stands, on its first test set
        papers = {}
        if key.subset == "test" and not key.variant:
            papers = find_published(key.data, self.files)
        common_loss = curves.find_common_loss(mine, self.curves)
        targets = {} if common_loss is None else {COMMON_LOSS: common_loss}
        targets |= {f"{loss:g} bits": loss for loss in self.losses}
        updates = {
            target: curves.updates_to(loss, mine, self.curves) for target, loss in targets.items()
        }
        return Section(
            key=key,
            lines=make_lines(mine, papers, updates),
            common_loss=common_loss,
            targets=tuple(targets),
            comparisons=significance.compare(mine, self.translations),
            curves=curves.name_curves(mine, self.curves),
            facts=_facts(key, mine),
        )


def group(rows: Sequence[Row]) -> dict[Key, list[Row]]:
    """Return what may stand in one table: key -> its rows.

    A run that diverged was neither averaged nor decoded: it belongs to every table of its data,
    variant and subset.
    """
    groups: dict[Key, list[Row]] = {}
    for row in rows:
        if not row["diverged"]:
            key = Key(*(row[name] or "" for name in Key._fields))
            groups.setdefault(key, []).append(row)
    for row in rows:
        if row["diverged"]:
            alone = Key(row["data"], row["variant"] or "", row["subset"], "", "")
            # data, variant and subset
            keys = [key for key in groups if key[:3] == alone[:3]]
            for key in keys or [alone]:
                groups.setdefault(key, []).append(row)
    return groups


def find_recipes(folder: Union[str, Path, None] = None) -> dict[str, Path]:
    """Return name -> recipe file: the package's, and those of ``folder`` before them.

    Raises:
        AdminError: if ``folder`` is no folder.
    """
    folders = [RECIPES]
    if folder is not None:
        if not Path(folder).is_dir():
            raise AdminError(f"--recipes {folder}: not a folder")
        folders.append(Path(folder))
    files = {}
    for where in folders:
        for path in sorted(where.glob("*.ini")):
            files[path.stem] = path
    return files


def find_published(data: str, files: dict[str, Path]) -> dict[tuple[str, str], Published]:
    """Return (canonical word, depth) -> the published number; none, with a warning, if unknown.

    Args:
        data: the recipe's name, from results.tsv: it is looked up and never part of a path.
        files: name -> recipe file.
    """
    if data not in files:
        logger.warning(
            "no recipe is called %s: its table has no published numbers (--recipes DIR adds "
            "recipes of your own)",
            data,
        )
        return {}
    numbers = {}
    for (word, depth), number in read_recipe(files[data]).published.items():
        numbers[canonical(word), depth] = number
    return numbers


def _facts(key: Key, rows: Sequence[Row]) -> dict[str, str]:
    facts = {
        "variant": key.variant or "the recipe as it stands",
        "averaged": key.averaged,
        "decoding": key.decoding,
    }
    for column in PROVENANCE:
        unit = " s" if column == "wall_clock" else ""
        values = _distinct(row[column] for row in rows)
        facts[column.replace("_", " ")] = "; ".join(f"{value}{unit}" for value in values)
    for column in ("bleu", "sacrebleu", "chrf"):
        signatures = _distinct(row[f"{column}_signature"] for row in rows)
        facts[f"signature, {results.MEASURES[column]}"] = "; ".join(signatures)
    diverged = []
    for row in rows:
        if row["diverged"]:
            run = f"{label(row['init_type'])} {row['depth']} seed {row['seed']}"
            diverged.append(f"{run} {row['diverged']}")
    facts["diverged"] = "; ".join(diverged)
    return {name: text for name, text in facts.items() if text}


def _distinct(values: Iterable[Any]) -> list[Any]:
    return sorted({value for value in values if value is not None})
