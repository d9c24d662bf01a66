"""The report as files."""

import hashlib
import logging
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar, Union

from ...errors import AdminError
from ...files import replacing
from . import csv_lines, curves, html_page, latex, markdown, no_warmup, rates, variants
from .document import compose
from .sections import Key, Results, Section

logger = logging.getLogger(__name__)
T = TypeVar("T")


def write_report(
    path: Union[str, Path],
    out: Union[str, Path],
    recipes: Union[str, Path, None] = None,
    losses: Sequence[float] = (),
) -> None:
    """Write ``report.md``, ``.html``, ``.tex``, ``.csv`` and the learning curves into a folder.

    Args:
        path: results.tsv.
        out: the folder of the report; it is made.
        recipes: a folder of recipe files whose published numbers come before the package's.
        losses: in bits a token; the tables have the updates to each.

    Raises:
        AdminError: if results.tsv is damaged or holds nothing, or ``out`` cannot be written.
    """
    known = Results.of(path, recipes, losses)
    at_rates = rates.collect(known.rows, known.files)
    # first: there methods are compared as they should be
    sections = [rates.best_section(found, known) for found in at_rates] + known.sections()
    known.translations.warn_of_missing()
    out = Path(out)
    try:
        out.mkdir(parents=True, exist_ok=True)
        # before the texts: the HTML page holds the pictures themselves
        pictures = _draw_curves(sections, out)
        blocks = compose(
            sections,
            pictures,
            _draw_all("rates", at_rates, rates.draw, out),
            _draw_all("no-warmup", no_warmup.collect(known.rows), no_warmup.draw, out),
            variants.collect(known.rows),
        )
        texts = {
            "report.md": markdown.render(blocks),
            "report.html": html_page.render(blocks, out),
            "report.tex": latex.render(blocks),
            "report.csv": csv_lines.render(sections),
        }
        for name, text in texts.items():
            with replacing(str(out / name)) as file:
                file.write(text.encode("utf-8"))
    except OSError as error:
        raise AdminError(f"--out {out}: cannot be written: {error}") from None
    logger.info("%s; beside it: report.md, report.tex, report.csv", out / "report.html")


def _draw_curves(sections: Sequence[Section], out: Path) -> dict[Key, str]:
    pictures = {}
    for section in sections:
        if section.curves:
            pictures[section.key] = _picture_name(section.key)
            curves.draw(out / pictures[section.key], section.curves)
    return pictures


def _draw_all(
    name: str, found: Sequence[T], draw: Callable[[Path, T], None], out: Path
) -> list[tuple[T, str]]:
    """Draw each of ``found`` into a file, ``rates-1.png``; return it with the file's name."""
    pictures = []
    for number, one in enumerate(found, 1):
        picture = f"{name}-{number}.png"
        draw(out / picture, one)
        pictures.append((one, picture))
    return pictures


def _picture_name(key: Key) -> str:
    # a variant is too long for a name: the digest tells sections of one test set apart
    digest = hashlib.sha256(repr(tuple(key)).encode()).hexdigest()[:8]
    readable = re.sub(r"[^\w.-]+", "-", f"{key.data}-{key.subset}")
    return f"{readable}-{digest}.png"
