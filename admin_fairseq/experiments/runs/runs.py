"""One training from start to end, whatever stops it in between.

A run's folder holds ``run.json`` (settings, command, commit, versions, hardware), ``train.log``,
the checkpoints, ``sessions.tsv`` (when it was trained), and at the end ``outcome.json``. Profiles
lie in ``profiles/`` beside it.
"""

from __future__ import annotations

import logging
import math
import shlex
import time
from pathlib import Path
from typing import Any, BinaryIO

from ...errors import AdminError
from ...files import StrPath, locked
from ..recipe import Recipe
from . import children, command, devices, machine, record
from .checks import check
from .outcome import crash_reason, describe, judge
from .record import Outcome
from .restart import restore_last
from .settings import Settings
from .watching import POLL, text_since, wait_and_watch

logger = logging.getLogger(__name__)
ENDING = 15  # seconds that a training may take to end after the command that started it was killed


class RunFailed(AdminError):
    """fairseq-train ended in an error that is no divergence."""


def finish(
    recipe: Recipe, settings: Settings, folder: Path, node_rank: int = 0, master: str = ""
) -> Outcome:
    """Train a run to its end, from where it is, and return its outcome.

    Stopped wherever it was, a training ends as an undisturbed one, bit for bit, on the same
    machine.

    Args:
        recipe: the recipe.
        settings: what is chosen beside it.
        folder: the run's folder.
        node_rank: which of several machines this is; the first, 0, keeps the books.
        master: HOST:PORT of one of several machines.

    Raises:
        AdminError: if the settings cannot work, or the folder is in use or holds another run.
        RunFailed: if fairseq-train failed; the message names its log.
    """
    known = record.load_outcome(folder)
    if known:
        logger.info("%s: %s already", folder, describe(known))
        return known
    check(recipe, settings)
    planned, usual = command.batch_of(recipe, settings), command.profile_tokens(recipe, settings)
    logger.info("%s: %s", folder, planned.describe())
    if planned.max_tokens < usual and not settings.max_tokens:
        logger.warning(
            "%s: on so many devices a batch has %d tokens, the recipe's has %d: other sentences "
            "come together than in the paper's; fewer --processes keep them",
            folder,
            planned.max_tokens,
            usual,
        )
    profile = command.profile_of(recipe, settings, folder)
    words = command.fairseq_train(recipe, settings, folder, profile)
    launched = command.with_paths(command.distributed(words, settings, node_rank, master))
    environment = devices.environment(settings.cpu, settings.per_node)
    folder.mkdir(parents=True, exist_ok=True)
    if node_rank > 0:
        _wait_for(profile)
        return _train_beside(launched, folder, node_rank, environment)
    with locked(folder / "lock", ENDING, in_use) as lock:
        remember(folder, recipe, settings, words)
        if profile is not None and not settings.profile:
            _measure(recipe, settings, profile)
        restore_last(folder)
        crash, told = _train(launched, folder, lock, environment)
        outcome = judge(folder, crash)
    if told:  # it ended by itself meanwhile; a run after it must not begin
        raise KeyboardInterrupt
    return outcome


def in_use(path: StrPath) -> str:
    """Return the message of a lock that another process holds: which, and the way out."""
    found = sorted(children.holders(Path(path)).items())
    who, way = "", "end it on the machine where it runs"
    if found:
        who = ":"
        for pid, line in found:
            who += f"\n  process {pid}: {' '.join(line.split())[:150]}"
        way = f"kill {' '.join(str(pid) for pid, _ in found)}"
    return (
        f"{Path(path).parent} is in use by another training{who}\n"
        f"Wait for its end, or end it ({way}); then the same command goes on"
    )


def remember(folder: Path, recipe: Recipe, settings: Settings, words: list[str]) -> None:
    """Write run.json, or compare with the one of an earlier start.

    Raises:
        AdminError: if the folder holds a run with another command, or one of another corpus.
    """
    path = folder / "run.json"
    if path.exists():
        check_corpus(folder, recipe, settings.data)
        before = record.load_run(folder).get("command")
        if before is None:
            raise AdminError(f"{path} is damaged: name another --dest")
        _check_same_command(folder, before, words)
        return
    facts: dict[str, Any] = {
        "recipe": recipe.name,
        "recipe_file": str(recipe.path.resolve()),
        "settings": settings.as_dict(),
        "variant": settings.variant(),
        "command": words,
        "commit": machine.commit(),
        "versions": machine.versions(),
        "hardware": machine.hardware(settings),
        "tokens_per_update": command.batch_of(recipe, settings).tokens,
        "dictionaries": command.dictionaries(recipe, settings.data),
    }
    record.write_json(path, facts)


def _check_same_command(folder: Path, before: list[str], now: list[str]) -> None:
    if before == now:
        return
    gone = shlex.join([word for word in before if word not in now])
    new = shlex.join([word for word in now if word not in before])
    raise AdminError(
        f"{folder} holds a run with other flags (then: {gone or 'another order'}; now: "
        f"{new or 'another order'}): name another --dest"
    )


def check_corpus(folder: Path, recipe: Recipe, data: str | Path) -> None:
    """Refuse a data-bin whose dictionaries are not those that a run was begun with."""
    begun = record.load_run(folder).get("dictionaries")
    if begun not in (None, command.dictionaries(recipe, data)):
        raise AdminError(
            f"{data}/data-bin is not what {folder} was begun with: its dictionaries are others. "
            "Name the other with --data, prepare it again, or train anew, into another --dest"
        )


def _measure(recipe: Recipe, settings: Settings, profile: Path) -> None:
    """Write the profile that the runs of this model share, unless it exists: one batch."""
    with locked(profile.parent / "lock", math.inf):
        if profile.exists():
            return
        words = command.fairseq_train(recipe, settings, profile.parent, profile, stage="profile")
        log = profile.with_suffix(".log")
        logger.info("profiling: %s", profile)
        with open(log, "a") as file:
            one = devices.environment(settings.cpu, 1)
            code = children.run(command.with_paths(words), file, one)
        if code or not profile.exists():
            raise RunFailed(f"profiling failed (exit code {code}): see {log}")


def _wait_for(profile: Path | None, patience: int = 1800) -> None:
    """Wait until the first machine has written the profile, into a folder that all see."""
    end = time.monotonic() + patience
    while profile is not None and not profile.exists():
        if time.monotonic() > end:
            raise AdminError(
                f"{profile} did not appear within {patience} s: is the folder shared by all "
                "machines?"
            )
        time.sleep(POLL)


def _train(
    words: list[str], folder: Path, lock: BinaryIO, environment: dict[str, str]
) -> tuple[Outcome | None, bool]:
    """Run fairseq-train into train.log.

    Returns:
        The outcome of a crash that is a divergence, or None if the training ran to its end; and
        whether it was told to stop, but ended so before it could.

    Raises:
        RunFailed: if it failed otherwise.
        KeyboardInterrupt: if it was told to stop, and has saved.
    """
    log = folder / "train.log"
    begun = log.stat().st_size if log.exists() else 0
    logger.info("%s: training, see %s", folder, log)
    with (
        record.session(folder),
        open(log, "a") as file,
        children.training(words, file, environment, [lock.fileno()]) as started,
    ):
        non_finite = wait_and_watch(started.process, log, begun)
    text, code = text_since(log, begun), started.process.returncode
    if non_finite is not None:
        end = {"state": "diverged", "update": non_finite, "reason": "non-finite loss"}
        return end, started.told
    _stop_if_saved(text, folder)
    reason = crash_reason(text) if code else None
    if reason:
        update = record.load_log(folder).last_update
        return {"state": "diverged", "update": update, "reason": reason}, started.told
    if code or "done training" not in text:
        if started.told:
            raise KeyboardInterrupt
        raise RunFailed(f"{folder}: fairseq-train failed (exit code {code}): see {log}")
    return None, started.told


def _stop_if_saved(text: str, folder: Path) -> None:
    """Stop as Ctrl-C does if a log says that its training was told to stop, and has saved."""
    at = text.rfind(children.SAVED)
    if at >= 0:
        logger.info("%s: %s", folder, text[at:].partition("\n")[0])
        raise KeyboardInterrupt


def _train_beside(
    words: list[str], folder: Path, rank: int, environment: dict[str, str]
) -> Outcome:
    """Run this machine's part of a training that another machine keeps the books of."""
    log = folder / f"train.node{rank}.log"
    begun = log.stat().st_size if log.exists() else 0
    with open(log, "a") as file, children.training(words, file, environment) as started:
        code = started.process.wait()
    _stop_if_saved(text_since(log, begun), folder)
    if started.told:
        raise KeyboardInterrupt
    if code:
        raise RunFailed(f"fairseq-train failed on this machine (exit code {code}): see {log}")
    return {"state": "done", "update": record.load_log(folder).last_update}
