"""Sections -> blocks: the order and the words of the report, without a format.

Results come first, then significance and learning curves, and where the numbers come from last.
"""

from collections.abc import Mapping, Sequence
from string import ascii_uppercase

from . import no_warmup, rates, variants
from .blocks import Block, Cell, Facts, Heading, Paragraph, Picture, Table
from .sections import Key, Section
from .significance import SAMPLES, Comparison, at_floor, format_p
from .tables import Line, find_best, label, measures_in

MEANS = (
    "Means are over the seeds that did not diverge; ± is the sample standard deviation. "
    "(2 of 3): over 2 of the 3 seeds that were run. Bold: the best of ours at its depth, among "
    "methods of which no run diverged. Empty cells: not run by us."
)
UPDATES = (
    "Updates to a loss, for each seed: the first validation that is at it or below, or never. The "
    "common loss is the largest final one of the runs in the table that did not diverge."
)
PAIRED = (
    "Paired bootstrap on tokenised BLEU, per seed: p of the second method against the first. "
    f"{SAMPLES:,} samples cannot tell a p below {1 / SAMPLES:g} from it."
)


def compose(
    sections: Sequence[Section],
    pictures: Mapping[Key, str],
    at_rates: Sequence[tuple[rates.Rates, str]] = (),
    grids: Sequence[tuple[no_warmup.Grid, str]] = (),
    of_methods: Sequence[variants.Variants] = (),
) -> list[Block]:
    """Return the report as blocks.

    Args:
        sections: of the report, in order.
        pictures: the file names of the learning curves, for the sections that have some.
        at_rates: runs at several learning rates, each with the file name of its figure.
        grids: runs without warm-up, each with the file name of its figure.
        of_methods: methods that were run in several variants.
    """
    letters = _name_variants(sections)
    titles = {section.key: title(section.key, letters) for section in sections}
    blocks: list[Block] = [Heading(1, "Report")]
    # what sets many sections side by side comes before them: a grid alone has dozens
    if at_rates:
        blocks += [Heading(2, "Learning rates"), Paragraph(rates.NOTE)]
    for found, picture in at_rates:
        blocks += [Heading(3, found.title), rates.table(found)]
        blocks.append(Picture(picture, f"Learning rates: {found.title}"))

    if of_methods:
        blocks += [Heading(2, "Variants"), Paragraph(variants.NOTE)]
    for of_recipe in of_methods:
        blocks += [Heading(3, of_recipe.title), variants.table(of_recipe)]

    if grids:
        blocks += [Heading(2, "Without warm-up"), Paragraph(no_warmup.NOTE)]
    for grid, picture in grids:
        blocks += [Heading(3, grid.title), no_warmup.table(grid)]
        blocks.append(Picture(picture, f"Without warm-up: {grid.title}"))

    blocks += [Heading(2, "Results"), Paragraph(MEANS)]
    if any(section.targets for section in sections):
        blocks.append(Paragraph(UPDATES))
    for section in sections:
        blocks.append(Heading(3, titles[section.key]))
        blocks.append(results_table(section, f"Results: {titles[section.key]}", letters))

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
    measures = measures_in(lines)
    has_published = any(line.published for line in lines)

    columns = ["depth", "method"]
    if has_published:
        columns.append("published")
    columns += [*measures.values(), "seeds", "diverged"]
    columns += [f"updates to {target}" for target in section.targets]

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
        row += [Cell(", ".join(line.updates[target])) for target in section.targets]
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


def significance_table(comparisons: Sequence[Comparison], name: str) -> Table:
    """Return the paired tests of a section as a table."""
    rows = []
    for comparison in comparisons:
        before, after = comparison.bleu
        texts = [
            comparison.depth,
            str(comparison.seed),
            *comparison.methods,  # apart: a label may have a comma
            f"{before:.2f}, {after:.2f}",
            format_p(comparison.p),
        ]
        rows.append([Cell(text) for text in texts])
    signatures = sorted({comparison.signature for comparison in comparisons})
    columns = ["depth", "seed", "first", "second", "tokenised BLEU", "p"]
    notes = [f"Signature: {'; '.join(signatures)}"]
    if any(at_floor(comparison.p) for comparison in comparisons):
        notes.append(
            f"p {format_p(0)}: no sample of {SAMPLES:,} differed more by chance; they cannot tell "
            "smaller values apart"
        )
    return Table(name, columns, rows, notes)
