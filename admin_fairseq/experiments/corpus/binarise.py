"""data-bin of the newest texts, with fairseq-preprocess."""

import logging
import shutil
import struct
import subprocess
from collections.abc import Mapping
from pathlib import Path

from ...errors import AdminError
from ..processes import ending_with_us, find_command
from .recipe import Corpus
from .stages import Stages

log = logging.getLogger(__name__)
# of fairseq's MMapIndexedDataset: magic, version, dtype, number of sentences
_INDEX = struct.Struct("<9sQBQ")
_MAGIC = b"MMIDIDX\x00\x00"


def run(stages: Stages, corpus: Corpus, at: Mapping[str, str], jobs: int) -> None:
    """Make data-bin unless it is made.

    Args:
        stages: of the folder.
        corpus: the [data] section of a recipe.
        at: subset -> folder of its text.
        jobs: processes.

    Raises:
        AdminError: if fairseq-preprocess fails, or loses sentences.
    """
    inputs = []
    for subset, place in at.items():
        inputs += corpus.paths(place, subset)

    def make(folder: Path) -> None:
        log.info("fairseq-preprocess: dictionary and binary data")
        _preprocess(stages, corpus, at, jobs, folder)
        for path in inputs:
            subset, _, lang = Path(path).name.rpartition(".")
            index = folder / f"{subset}.{corpus.source}-{corpus.target}.{lang}.idx"
            _check_count(index, stages.lines(path))

    if stages.run_folder("data-bin", inputs, "data-bin", {"languages": corpus.languages}, make):
        log.info("binarised")
    _tell(stages, corpus, at)


def _preprocess(
    stages: Stages, corpus: Corpus, at: Mapping[str, str], jobs: int, folder: Path
) -> None:
    prefixes = {subset: str(stages.folder / place / subset) for subset, place in at.items()}
    tests = [prefixes[subset] for subset in corpus.final_subsets if subset.startswith("test")]
    command = [find_command("fairseq-preprocess"), "--joined-dictionary"]
    command += ["--source-lang", corpus.source, "--target-lang", corpus.target]
    command += ["--trainpref", prefixes["train"], "--validpref", prefixes["valid"]]
    command += ["--testpref", ",".join(tests)]
    command += ["--workers", str(jobs), "--destdir", str(folder)]
    log_path = stages.folder / "preprocess.log"
    with open(log_path, "wb") as file:
        code = subprocess.run(
            command,
            stdout=file,
            stderr=subprocess.STDOUT,
            # left behind by a killed run, it would write into the folder of the next one
            preexec_fn=ending_with_us(),
        ).returncode
    if code != 0:
        free = shutil.disk_usage(stages.folder).free / 1e6
        raise AdminError(
            f"fairseq-preprocess failed ({free:,.0f} MB are free on the disk): see {log_path}"
        )


def _check_count(index: Path, lines: int) -> None:
    with open(index, "rb") as file:
        magic, _, _, sentences = _INDEX.unpack(file.read(_INDEX.size))
    if magic != _MAGIC or sentences != lines:
        raise AdminError(
            f"{index} holds {sentences} sentences of {lines} lines: fairseq-preprocess lost some"
        )


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
