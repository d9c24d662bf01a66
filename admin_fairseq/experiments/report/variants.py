"""Variants of one method side by side, as an ablation needs them: each against the plainest.

A section of its own has each variant alone, beside other methods. Here a line is a variant, and the
loss of its seeds stands beside that of the same seeds in the variant with the fewest changes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from .blocks import Cell, Table
from .no_warmup import place_in_grid
from .rates import without_rate
from .tables import (
    Line,
    Row,
    canonical,
    items_of,
    label,
    make_lines,
    mean_sd,
    measures_in,
    place_of,
    shared_items,
)

NOTE = (
    "One line a variant of a method; the first of each has the fewest changes. Difference: of the "
    "final validation loss to the first's, in bits, mean over the seeds that both have ± sample "
    "standard deviation, runs that diverged included."
)


@dataclass(frozen=True)
class Variants:
    """The variants of the methods of one recipe, depth and test set.

    Attributes:
        title: what they have in common, as text.
        lines: (variant without what all share, its line, differences of the loss): in bits, of each
            seed that the plainest variant of the method has too; None of the plainest.
    """

    title: str
    lines: list[tuple[str, Line, list[float] | None]]


def collect(rows: Sequence[Row]) -> list[Variants]:
    """Return the methods that were run in variants which differ in more than rate and length."""
    groups: dict[tuple[str, str, str], dict[str, dict[str, list[Row]]]] = {}
    for row in rows:
        if place_in_grid(row) is None:
            methods = groups.setdefault((row["data"], row["depth"], row["subset"]), {})
            of_method = methods.setdefault(canonical(row["init_type"]), {})
            of_method.setdefault(row["variant"] or "", []).append(row)
    found = []
    for key, methods in groups.items():
        several = {
            method: variants
            for method, variants in sorted(methods.items(), key=lambda item: place_of(item[0]))
            if len({_own_changes(variant) for variant in variants}) > 1
        }
        if several:
            shared = shared_items([v for variants in several.values() for v in variants])
            lines = [line for v in several.values() for line in _lines(v, shared)]
            found.append(Variants(", ".join([*key, *shared]), lines))
    return found


def _own_changes(variant: str) -> tuple[str, ...]:
    """Return a variant's changes without its peak learning rate and its updates."""
    items = items_of(without_rate(variant))
    return tuple(item for item in items if not item.startswith("updates="))


def _lines(
    variants: dict[str, list[Row]], shared: Sequence[str]
) -> Iterator[tuple[str, Line, list[float] | None]]:
    # sorted is stable: variants of as many changes stay in the order of results.tsv
    ordered = sorted(variants, key=lambda variant: len(items_of(variant)))
    plainest = {row["seed"]: row["valid_nll"] for row in variants[ordered[0]]}
    for variant in ordered:
        own = " ".join(item for item in items_of(variant) if item not in shared)
        decoded = _by_decoding(variants[variant])
        for way, rows in decoded.items():
            (line,) = make_lines(rows, {}, {})
            differences = None
            if variant != ordered[0]:
                pairs = [(row["valid_nll"], plainest.get(row["seed"])) for row in rows]
                differences = [
                    loss - before
                    for loss, before in pairs
                    if loss is not None and before is not None
                ]
            name = ", ".join(filter(None, [own, way])) if len(decoded) > 1 else own
            yield name, line, differences


def _by_decoding(rows: Sequence[Row]) -> dict[str, list[Row]]:
    """Return how translations were made -> rows: scores of two ways have no mean.

    Rows without a translation, which are of every way, stand with the first.
    """
    found: dict[str, list[Row]] = {}
    alone = []
    for row in rows:
        way = ", ".join(filter(None, (row["averaged"], row["decoding"])))
        if way:
            found.setdefault(way, []).append(row)
        else:
            alone.append(row)
    first = next(iter(found), "")
    if alone:
        found.setdefault(first, []).extend(alone)
    return found


def table(found: Variants) -> Table:
    """Return the variants of methods as a table. Measures that nobody has are left out."""
    measures = measures_in([line for _, line, _ in found.lines])
    rows = []
    for variant, line, differences in found.lines:
        row = [label(line.method), variant or "no other change"]
        row += [str(line.means[column]) for column in measures]
        row += [
            "" if differences is None else mean_sd(differences),
            " ".join(str(seed) for seed in line.seeds),
            f"{line.diverged} of {len(line.seeds)}",
        ]
        rows.append([Cell(text) for text in row])
    columns = ["method", "variant", *measures.values(), "difference, bits", "seeds", "diverged"]
    return Table(f"Variants: {found.title}", columns, rows)
