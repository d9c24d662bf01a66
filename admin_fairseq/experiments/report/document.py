"""Sections -> blocks: the order and the words of the report, without a format.

Results come first, then significance and learning curves, and where the numbers come from last.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from string import ascii_uppercase
from typing import Union

from .no_warmup import Grid, mean_loss
from .rates import Rates
from .rates import cell as rate_cell
from .sections import Key, Section
from .significance import SAMPLES, Comparison, at_floor, format_p
from .tables import MEASURES, Line, find_best, label, mean_sd
from .variants import Variants

MEANS = (
    "Means are over the seeds that did not diverge; ± is the sample standard deviation. "
    "(2 of 3): over 2 of the 3 seeds that were run. Bold: the best of ours at its depth, among "
    "methods of which no run diverged. Empty cells: not run by us."
)
COMMON_LOSS = (
    "Updates to the common loss, for each seed: the first validation at which it reaches the "
    "largest final validation loss of the runs in the table that did not diverge, or never."
)
PAIRED = (
    "Paired bootstrap on tokenised BLEU, per seed: p of the second method against the first. "
    f"{SAMPLES:,} samples cannot tell a p below {1 / SAMPLES:g} from it."
)
RATES = (
    "Final validation nll per token in bits, against the peak learning rate: mean over seeds ± "
    "sample standard deviation, of the runs that did not diverge. Bold: the best rate of a method, "
    "of those at which no run diverged."
)
NO_WARMUP = (
    "Final validation nll per token in bits of runs without warm-up, over peak learning rate and "
    "beta2: mean over the seeds that did not diverge. Bold: the best of a model, where no seed did."
)
VARIANTS = (
    "One line a variant of a method; the first of each has the fewest changes. Difference: of the "
    "final validation loss to the first's, in bits, mean over the seeds that both have ± sample "
    "standard deviation, runs that diverged included."
)
UPDATES = "updates to the common loss"


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


def compose(
    sections: Sequence[Section],
    pictures: Mapping[Key, str],
    rates: Sequence[tuple[Rates, str]] = (),
    grids: Sequence[tuple[Grid, str]] = (),
    variants: Sequence[Variants] = (),
) -> list[Block]:
    """Return the report as blocks.

    Args:
        sections: of the report, in order.
        pictures: the file names of the learning curves, for the sections that have some.
        rates: runs at several learning rates, each with the file name of its figure.
        grids: runs without warm-up, each with the file name of its figure.
        variants: methods that were run in several.
    """
    letters = _name_variants(sections)
    titles = {section.key: title(section.key, letters) for section in sections}
    blocks: list[Block] = [Heading(1, "Report"), Heading(2, "Results"), Paragraph(MEANS)]
    if any(section.common_loss is not None for section in sections):
        blocks.append(Paragraph(COMMON_LOSS))
    for section in sections:
        blocks.append(Heading(3, titles[section.key]))
        blocks.append(results_table(section, f"Results: {titles[section.key]}", letters))

    if rates:
        blocks += [Heading(2, "Learning rates"), Paragraph(RATES)]
    for found, picture in rates:
        blocks += [Heading(3, found.title), rates_table(found)]
        blocks.append(Picture(picture, f"Learning rates: {found.title}"))

    if variants:
        blocks += [Heading(2, "Variants"), Paragraph(VARIANTS)]
    for of_recipe in variants:
        blocks += [Heading(3, of_recipe.title), variants_table(of_recipe)]

    if grids:
        blocks += [Heading(2, "Without warm-up"), Paragraph(NO_WARMUP)]
    for grid, picture in grids:
        blocks += [Heading(3, grid.title), grid_table(grid)]
        blocks.append(Picture(picture, f"Without warm-up: {grid.title}"))

    tested = [section for section in sections if section.comparisons]
    if tested:
        blocks += [Heading(2, "Significance"), Paragraph(PAIRED)]
    for section in tested:
        blocks.append(Heading(3, titles[section.key]))
        name = f"Significance: {titles[section.key]}"
        blocks.append(significance_table(section.comparisons, name))

    drawn = [section for section in sections if section.key in pictures]
    if drawn:
        blocks.append(Heading(2, "Learning curves"))
    for section in drawn:
        blocks.append(Heading(3, titles[section.key]))
        blocks.append(Picture(pictures[section.key], f"Learning curves: {titles[section.key]}"))

    blocks.append(Heading(2, "Provenance"))
    for section in sections:
        blocks += [Heading(3, titles[section.key]), Facts(section.facts)]
    return blocks


def _name_variants(sections: Sequence[Section]) -> dict[str, str]:
    """Return variant -> short name: A, B, ..., Z, AA, AB, ... in the order of the sections.

    The flags that make a variant are too long for headings; notes and provenance have them in full.
    """
    letters: dict[str, str] = {}
    for section in sections:
        variant = section.key.variant
        if variant and variant not in letters:
            letters[variant] = _letters(len(letters))
    return letters


def _letters(number: int) -> str:
    name = ""
    # counted from 1: these names have no digit for 0
    number += 1
    while number:
        number, place = divmod(number - 1, len(ascii_uppercase))
        name = ascii_uppercase[place] + name
    return name


def title(key: Key, letters: Mapping[str, str]) -> str:
    """Return ``iwslt14_de-en, test, variant A, last 10 epochs, beam 5``."""
    variant = f"variant {letters[key.variant]}" if key.variant else ""
    parts = [key.data, key.subset, variant, key.averaged, key.decoding]
    return ", ".join(part for part in parts if part)


def results_table(section: Section, name: str, letters: Mapping[str, str]) -> Table:
    """Return a section's table: ours beside the papers'. Measures that nobody has are left out."""
    lines = section.lines
    measures = {}
    for column, heading in MEASURES.items():
        if any(line.means[column].values for line in lines):
            measures[column] = heading
    has_published = any(line.published for line in lines)
    has_updates = section.common_loss is not None

    columns = ["depth", "method"]
    if has_published:
        columns.append("published")
    columns += [*measures.values(), "seeds", "diverged"]
    if has_updates:
        columns.append(UPDATES)

    best = find_best(lines)
    sources = _number_sources(lines)
    rows = []
    for line in lines:
        row = [Cell(line.depth), Cell(label(line.method))]
        if has_published:
            row.append(Cell(_published(line, sources)))
        for column in measures:
            is_best = (line.depth, line.method, column) in best
            row.append(Cell(str(line.means[column]), is_best))
        row.append(Cell(" ".join(str(seed) for seed in line.seeds)))
        row.append(Cell(f"{line.diverged} of {len(line.seeds)}" if line.seeds else ""))
        if has_updates:
            row.append(Cell(", ".join(line.updates)))
        rows.append(row)
    return Table(name, columns, rows, _notes(section, sources, letters))


def _number_sources(lines: Sequence[Line]) -> dict[str, int]:
    sources: dict[str, int] = {}
    for line in lines:
        if line.published:
            sources.setdefault(line.published.source, len(sources) + 1)
    return sources


def _published(line: Line, sources: Mapping[str, int]) -> str:
    if not line.published:
        return ""
    # the note below names it, and a number would point at nothing else
    if len(sources) == 1:
        return str(line.published)
    return f"{line.published} [{sources[line.published.source]}]"


def _notes(section: Section, sources: Mapping[str, int], letters: Mapping[str, str]) -> list[str]:
    notes = []
    variant = section.key.variant
    if variant:
        notes.append(f"Variant {letters[variant]}: {variant}")
    if len(sources) == 1:
        notes.append(f"Published: {', '.join(sources)}")
    elif sources:
        numbered = [f"[{number}] {source}" for source, number in sources.items()]
        notes.append(f"Published: {'; '.join(numbered)}")
    if section.common_loss is not None:
        notes.append(f"Common loss: {section.common_loss:.2f} bits a token")
    return notes


def rates_table(found: Rates) -> Table:
    """Return the final losses of runs at several rates as a table, one line a method."""
    rows = []
    for method, runs in found.runs.items():
        best = found.best(method)
        row = [Cell(label(method))]
        for rate in found.rates:
            row.append(Cell(rate_cell(runs[rate]) if rate in runs else "", rate == best))
        seeds = sorted({row["seed"] for of_rate in runs.values() for row in of_rate})
        row.append(Cell(" ".join(str(seed) for seed in seeds)))
        rows.append(row)
    columns = ["method", *(f"{rate:g}" for rate in found.rates), "seeds"]
    return Table(f"Learning rates: {found.title}", columns, rows)


def variants_table(found: Variants) -> Table:
    """Return the variants of methods as a table. Measures that nobody has are left out."""
    measures = {}
    for column, heading in MEASURES.items():
        if any(line.means[column].values for _, line, _ in found.lines):
            measures[column] = heading
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


def grid_table(grid: Grid) -> Table:
    """Return a grid without warm-up as a table: a line for each model and beta2."""
    rows = []
    for panel, runs in grid.runs.items():
        means = {}
        for place, of_place in runs.items():
            if not any(row["diverged"] for row in of_place):
                means[place] = mean_loss(of_place)
        best = min((mean for mean in means.values() if mean is not None), default=None)
        for beta2 in grid.beta2s:
            row = [Cell(panel), Cell(f"{beta2:g}")]
            for rate in grid.rates:
                here = runs.get((rate, beta2), ())
                mean = means.get((rate, beta2))
                is_best = mean is not None and mean == best
                row.append(Cell(rate_cell(here) if here else "", is_best))
            rows.append(row)
    columns = ["model", "beta2", *(f"{rate:g}" for rate in grid.rates)]
    return Table(f"Without warm-up: {grid.title}", columns, rows)


def significance_table(comparisons: Sequence[Comparison], name: str) -> Table:
    """Return the paired tests of a section as a table."""
    rows = []
    for comparison in comparisons:
        before, after = comparison.bleu
        texts = [
            comparison.depth,
            str(comparison.seed),
            ", ".join(comparison.methods),
            f"{before:.2f}, {after:.2f}",
            format_p(comparison.p),
        ]
        rows.append([Cell(text) for text in texts])
    signatures = sorted({comparison.signature for comparison in comparisons})
    columns = ["depth", "seed", "methods", "tokenised BLEU", "p"]
    notes = [f"Signature: {'; '.join(signatures)}"]
    if any(at_floor(comparison.p) for comparison in comparisons):
        notes.append(
            f"p {format_p(0)}: no sample of {SAMPLES:,} differed more by chance; they cannot tell "
            "smaller values apart"
        )
    return Table(name, columns, rows, notes)
