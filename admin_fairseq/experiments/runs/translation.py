"""Means of a run's checkpoints, and translations of its test sets, each made once."""

from __future__ import annotations

import logging
import os
import re
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ...errors import AdminError
from ...files import replacing
from ..recipe import Recipe
from . import children
from .command import USER_DIR, with_paths

logger = logging.getLogger(__name__)
_ERROR = "admin-fairseq: error: "


def subsets_of(data: str | Path, source: str, target: str) -> list[str]:
    """Return the test subsets of a data-bin: test, test1, ...

    Raises:
        AdminError: if it has none.
    """
    pattern = re.compile(rf"(test\d*)\.{source}-{target}\.{target}\.idx")
    names = []
    for path in (Path(data) / "data-bin").iterdir():
        match = pattern.fullmatch(path.name)
        if match:
            names.append(match[1])
    if not names:
        raise AdminError(f"{data}/data-bin: no test set ({source}-{target}) in it")
    return sorted(names, key=lambda name: int(name[4:] or 0))


def make_mean(folder: Path, count: int, by_updates: bool) -> tuple[Path, str]:
    """Write the mean of a run's last ``count`` checkpoints, unless it is there.

    One by updates is the last checkpoint as it is.

    Returns:
        The checkpoint, and what it is the mean of.

    Raises:
        AdminError: if there are not as many checkpoints, or they cannot be averaged.
    """
    if by_updates and count == 1:
        return folder / "checkpoint_last.pt", "last checkpoint"
    kind = "updates" if by_updates else "epochs"
    mean = folder / f"mean-last{count}-{kind}.pt"
    if not _is_fresh(
        mean, folder.glob("checkpoint_*_*.pt" if by_updates else "checkpoint[0-9]*.pt")
    ):
        log = mean.with_suffix(".log")
        number = "--num-update-checkpoints" if by_updates else "--num-epoch-checkpoints"
        words = ["admin-fairseq", "average", "--inputs", str(folder), number, str(count)]
        with open(log, "w") as file:
            code = children.run(with_paths([*words, "--output", str(mean)]), file)
        if code:
            _, found, message = log.read_text(errors="replace").rpartition(_ERROR)
            raise AdminError(message.strip() if found else f"averaging failed: see {log}")
    return mean, f"last {count} {kind}"


def _is_fresh(made: Path, sources: Any) -> bool:
    if not made.exists():
        return False
    return all(os.path.getmtime(path) <= os.path.getmtime(made) for path in sources)


class Decoding(NamedTuple):
    """How a recipe translates at a depth.

    Attributes:
        max_len: (A, B): at most A times the source's tokens + B; None for fairseq's limit.
    """

    beam: int
    lenpen: float
    max_len: tuple[float, int] | None

    def flags(self) -> list[Any]:
        """Return the flags of fairseq-generate."""
        words: list[Any] = ["--beam", self.beam, "--lenpen", self.lenpen]
        if self.max_len is not None:
            words += ["--max-len-a", self.max_len[0], "--max-len-b", self.max_len[1]]
        return words

    def __str__(self) -> str:
        """Return it as results.tsv has it."""
        text = f"beam {self.beam}, lenpen {self.lenpen:g}"
        if self.max_len is not None:
            text += f", at most {self.max_len[0]:g} x + {self.max_len[1]} tokens"
        return text


def decoding_of(recipe: Recipe, depth: str) -> Decoding:
    """Return how a recipe translates at a depth."""
    return Decoding(
        *(recipe.get("evaluation", key, depth) for key in ("beam", "lenpen", "max-len"))
    )


def fairseq_generate(
    run: dict[str, Any], checkpoint: Path, subset: str, recipe: Recipe
) -> list[str]:
    """Return the words of the command that translates a test subset; see :func:`translate`."""
    settings = run["settings"]
    words = ["fairseq-generate", Path(settings["data"]) / "data-bin"]
    words += ["-s", recipe.source, "-t", recipe.target, "--user-dir", USER_DIR]
    words += ["--path", checkpoint, "--gen-subset", subset]
    words += decoding_of(recipe, settings["layers"]).flags()
    words += ["--batch-size", 128, "--remove-bpe", "--no-progress-bar"]
    words += ["--cpu", "--num-workers", 0] if settings["cpu"] else ["--fp16"]
    return [str(word) for word in words]


def translate(
    run: dict[str, Any], folder: Path, checkpoint: Path, subset: str, recipe: Recipe
) -> Path:
    """Translate a test subset with the recipe's beam and length penalty, unless it is done.

    Args:
        run: what run.json says.
        folder: the run's folder.
        checkpoint: of the model.
        subset: the test set.
        recipe: the run's recipe.

    Returns:
        The output of fairseq-generate.
    """
    texts = fairseq_generate(run, checkpoint, subset, recipe)
    line = shlex.join(texts) + "\n"
    output, made_by = folder / f"{subset}.out", folder / f"{subset}.command"
    same = made_by.exists() and made_by.read_text() == line
    if not (same and _is_fresh(output, [checkpoint])):
        made_by.unlink(missing_ok=True)
        _run_logged(texts, output, folder / f"{subset}.part")
        with replacing(made_by) as file:
            file.write(line.encode())
    return output


def _run_logged(words: Sequence[str], target: Path, part: Path) -> None:
    """Run a command, its output into ``part``, which becomes ``target`` when it ended well."""
    logger.info("writing %s", target)
    with open(part, "w") as file:
        code = children.run(with_paths(list(words)), file)
    if code:
        raise AdminError(f"{words[0]} failed (exit code {code}): see {part}")
    os.replace(part, target)


def raw_reference(data: str | Path, subset: str, lang: str) -> list[str]:
    """Return the lines of the raw reference of a test set; errors are those of read_reference."""
    return read_reference(Path(data) / "raw" / f"{subset}.{lang}")


def read_reference(path: str | Path) -> list[str]:
    r"""Return the lines of a reference; lines end at ``\n`` alone, the last one may lack it.

    Raises:
        AdminError: if it cannot be read.
    """
    try:
        with open(path, encoding="utf-8", newline="\n") as file:
            text = file.read()
    except (OSError, UnicodeDecodeError) as error:
        raise AdminError(f"{path}: this reference cannot be read: {error}") from None
    lines = text.split("\n")
    return lines[:-1] if text.endswith("\n") else lines
