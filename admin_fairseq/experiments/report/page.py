"""The report as files: Markdown, PNG curves, and one HTML page that needs no network and no script."""

import base64
import hashlib
import html
import logging
import os
import re
from pathlib import Path

from ... import plots
from ...errors import AdminError
from ...files import replacing
from . import tables as report

logger = logging.getLogger(__name__)
STYLE = (
    "body{font:15px/1.45 sans-serif;max-width:72em;margin:2em auto;padding:0 1em}"
    "table{border-collapse:collapse;margin:1em 0;display:block;overflow-x:auto}"
    "td,th{border:1px solid #999;padding:.25em .6em;text-align:left}dt{font-weight:bold}img{max-width:100%}"
)
NOTE = "Empty cells: not run by us. Means are over seeds that did not diverge, ± is the sample standard deviation."
PAIRED = "Paired bootstrap on tokenised BLEU: p of the second against the first, per seed."


def write(path, out, recipes):
    """Write ``report.md``, ``report.html`` and one PNG of learning curves a section into ``out``.

    Raises:
        AdminError: if results.tsv is damaged or holds nothing, or ``out`` cannot be written.
    """
    sections = report.build(path, recipes)
    out = Path(out)
    try:
        out.mkdir(parents=True, exist_ok=True)
        for section in sections:
            section["image"] = draw(section, out)
        for name, text in (("report.md", markdown(sections)), ("report.html", page(sections, out))):
            with replacing(out / name) as file:
                file.write(text.encode("utf-8"))
    except OSError as error:
        raise AdminError(f"--out {out}: cannot be written: {error}") from None
    logger.info("%s, and report.md beside it", out / "report.html")


def draw(section, out):
    """Draw a section's learning curves; return the picture's name, or None if there are none."""
    if not section["curves"]:
        return None
    digest = hashlib.sha256(repr(section["key"]).encode()).hexdigest()[
        :8
    ]  # variants are too long for a name
    name = re.sub(r"[^\w.-]+", "-", "-".join(section["key"][::2][:2])) + f"-{digest}.png"
    part = out / f"{name}.part.png"
    try:
        plots.save_figure(
            part,
            lambda axis: plots.draw_curves(
                axis, section["curves"], "validation nll per token (bits)"
            ),
        )
        os.replace(part, out / name)
    finally:
        part.unlink(missing_ok=True)
    return name


def markdown(sections):
    """Return the report as Markdown."""
    parts = ["# Results", NOTE]
    for section in sections:
        parts.append(f"## {section['heading']}")
        parts.append("\n".join(f"- {name}: {value}" for name, value in section["facts"].items()))
        parts.append(_markdown_table(section["table"]))
        if section["comparisons"]:
            parts += [PAIRED, _markdown_table(section["comparisons"])]
        if section["image"]:
            parts.append(f"![learning curves]({section['image']})")
    return "\n\n".join(parts) + "\n"


def _markdown_table(lines):
    names = list(lines[0])
    rows = [
        names,
        ["---"] * len(names),
        *([line[name].replace("|", r"\|") for name in names] for line in lines),
    ]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def page(sections, out):
    """Return the report as one HTML page; pictures are inside."""
    body = []
    for section in sections:
        body.append(f"<h2>{html.escape(section['heading'])}</h2><dl>")
        body += [
            f"<dt>{html.escape(name)}</dt><dd>{html.escape(str(value))}</dd>"
            for name, value in section["facts"].items()
        ]
        body += ["</dl>", _html_table(section["table"])]
        if section["comparisons"]:
            body += [f"<p>{html.escape(PAIRED)}</p>", _html_table(section["comparisons"])]
        if section["image"]:
            data = base64.b64encode((out / section["image"]).read_bytes()).decode()
            body.append(f'<p><img alt="learning curves" src="data:image/png;base64,{data}"/></p>')
    text = "\n".join(body)
    return (
        f'<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"/><title>Results</title><style>{STYLE}</style></head>\n'
        f"<body><h1>Results</h1><p>{html.escape(NOTE)}</p>\n{text}\n</body></html>\n"
    )


def _html_table(lines):
    head = "".join(f"<th>{html.escape(name)}</th>" for name in lines[0])
    rows = "".join(
        "<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in line.values()) + "</tr>\n"
        for line in lines
    )
    return f"<table><tr>{head}</tr>\n{rows}</table>"
