"""data-bin of the last texts, with fairseq-preprocess."""

import logging
import shutil
import struct
import subprocess

from ...errors import AdminError
from ..processes import ending_with_us

log = logging.getLogger(__name__)
INDEX = struct.Struct(
    "<9sQBQ"
)  # fairseq's MMapIndexedDataset: magic, version, dtype, number of sentences
MAGIC = b"MMIDIDX\x00\x00"


def run(stages, recipe, at, jobs):
    """Make data-bin; ``at`` says in which folder the text of each subset is."""
    source, target = recipe.source, recipe.target
    prefixes = {subset: str(stages.folder / folder / subset) for subset, folder in at.items()}
    inputs = [
        f"{folder}/{subset}.{lang}" for subset, folder in at.items() for lang in (source, target)
    ]
    tests = [prefixes[subset] for subset in recipe.final_subsets if subset.startswith("test")]
    command = [
        "fairseq-preprocess",
        "--source-lang",
        source,
        "--target-lang",
        target,
        "--joined-dictionary",
    ]
    command += [
        "--trainpref",
        prefixes["train"],
        "--validpref",
        prefixes["valid"],
        "--testpref",
        ",".join(tests),
    ]
    command += ["--workers", str(jobs)]

    def make(folder):
        log.info("fairseq-preprocess: dictionary and binary data")
        log_path = stages.folder / "preprocess.log"
        with open(log_path, "wb") as file:
            code = subprocess.run(
                [*command, "--destdir", str(folder)],
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
        for subset, place in at.items():
            for lang in (source, target):
                _check_count(
                    folder / f"{subset}.{source}-{target}.{lang}.idx",
                    stages.lines(f"{place}/{subset}.{lang}"),
                )

    if stages.run_folder("data-bin", inputs, "data-bin", {"languages": [source, target]}, make):
        log.info("binarised")
    dictionary = stages.folder / "data-bin" / f"dict.{source}.txt"
    with open(dictionary, encoding="utf-8", newline="\n") as file:
        types = sum(1 for _ in file)
    counts = ", ".join(
        f"{subset} {stages.lines(f'{at[subset]}/{subset}.{source}'):,}"
        for subset in recipe.final_subsets
    )
    log.info(
        "ready: %s (lines: %s; %s types and fairseq's 4)", dictionary.parent, counts, f"{types:,}"
    )


def _check_count(index, lines):
    with open(index, "rb") as file:
        magic, _, _, sentences = INDEX.unpack(file.read(INDEX.size))
    if magic != MAGIC or sentences != lines:
        raise AdminError(
            f"{index} holds {sentences} sentences of {lines} lines: fairseq-preprocess lost some"
        )
