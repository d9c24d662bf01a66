"""data-bin of the newest texts: the files of fairseq-preprocess --joined-dictionary."""

import logging
from collections.abc import Mapping
from pathlib import Path

from ...errors import raise_all
from .fairseq_data import preprocess
from .recipe import Corpus
from .stages import Stages

log = logging.getLogger(__name__)


def run(stages: Stages, corpus: Corpus, at: Mapping[str, str], jobs: int) -> None:
    """Make data-bin unless it is made.

    Args:
        stages: of the folder.
        corpus: the [data] section of a recipe.
        at: subset -> folder of its text.
        jobs: processes.

    Raises:
        AdminError: if a line is several to fairseq, or a process is killed.
    """
    inputs = []
    for subset, place in at.items():
        inputs += corpus.paths(place, subset)

    def make(folder: Path) -> None:
        log.info("dictionary and binary data, as of fairseq-preprocess")
        written = preprocess(folder, corpus.languages, _texts(stages, corpus, at), jobs)
        _check_counts(stages, at, written)

    if stages.run_folder("data-bin", inputs, "data-bin", {"languages": corpus.languages}, make):
        log.info("binarised")
    _tell(stages, corpus, at)


def _texts(stages: Stages, corpus: Corpus, at: Mapping[str, str]) -> dict[str, dict[str, Path]]:
    """Return subset -> language -> text."""
    texts = {}
    for subset in corpus.final_subsets:
        sides = {}
        for lang in corpus.languages:
            sides[lang] = stages.folder / at[subset] / f"{subset}.{lang}"
        texts[subset] = sides
    return texts


def _check_counts(
    stages: Stages, at: Mapping[str, str], written: Mapping[tuple[str, str], int]
) -> None:
    problems = []
    for (subset, lang), sentences in written.items():
        path = f"{at[subset]}/{subset}.{lang}"
        lines = stages.lines(path)
        if sentences != lines:
            problems.append(
                f"{path}: {lines:,} lines, which fairseq reads as {sentences:,}: a carriage return "
                "ends a line there; take them out of the text, or let the recipe tokenise it"
            )
    raise_all("data-bin is not made:", problems)


def _tell(stages: Stages, corpus: Corpus, at: Mapping[str, str]) -> None:
    dictionary = stages.folder / "data-bin" / f"dict.{corpus.source}.txt"
    with open(dictionary, encoding="utf-8", newline="\n") as file:
        types = sum(1 for _ in file)
    counts = []
    for subset in corpus.final_subsets:
        lines = stages.lines(f"{at[subset]}/{subset}.{corpus.source}")
        counts.append(f"{subset} {lines:,}")
    log.info(
        "ready: %s (lines: %s; %s types and fairseq's 4)",
        dictionary.parent,
        ", ".join(counts),
        f"{types:,}",
    )
