"""One training from start to end, whatever stops it in between. ``finish(recipe, settings, folder) -> outcome``.

A run's folder holds ``run.json`` (settings, command, commit, versions, hardware), ``train.log``, the checkpoints,
``sessions.tsv`` (when it was trained), and at the end ``outcome.json``. Profiles lie in ``profiles/`` beside it.
"""

import contextlib
import fcntl
import json
import logging
import os
import shlex
import shutil
import subprocess
import time
import zipfile
from pathlib import Path

from ...errors import AdminError
from ...files import replacing
from . import command, machine, outcome

logger = logging.getLogger(__name__)
POLL = 2  # seconds between two looks at the log
ENDING = 15  # seconds that a training may take to end after its train.sh was killed


class RunFailed(AdminError):
    """fairseq-train ended in an error that is no divergence."""


def finish(recipe, settings, folder, node_rank=0, master=""):
    """Train a run to its end, from where it is, and return its outcome.

    Stopped wherever it was, a training ends as an undisturbed one, bit for bit, on the same machine.

    Raises:
        AdminError: if the settings cannot work, or the folder is in use or holds another run.
        RunFailed: if fairseq-train failed; the message names its log.
    """
    folder = Path(folder)
    known = outcome.load(folder)
    if known:
        logger.info("%s: %s already", folder, describe(known))
        return known
    command.check(recipe, settings)
    logger.info("%s: %s", folder, command.batch_of(recipe, settings).describe())
    profile = folder.parent / "profiles" / command.profile_name(recipe, settings)
    profile = profile if settings.init_type == "adaptive" else None
    words = command.fairseq_train(recipe, settings, folder, profile)
    launched = command.distributed(words, settings, node_rank, master)
    if node_rank > 0:  # the first machine keeps the books
        wait_for(profile)
        return _other_node(launched, folder, node_rank)
    folder.mkdir(parents=True, exist_ok=True)
    with locked(folder / "lock") as lock:
        remember(folder, recipe, settings, words)
        if profile is not None:
            measure(recipe, settings, profile)
        restore_last(folder)
        return train(launched, folder, lock) or outcome.judge(folder)


def describe(result):
    """Return an outcome as one phrase."""
    if result["state"] == "diverged":
        return f"diverged at update {result['update']} ({result['reason']})"
    return f"done after {result['update']} updates"


@contextlib.contextmanager
def locked(path, wait=False):
    """Hold the lock at ``path``; what is started meanwhile may hold it on.

    Raises:
        AdminError: if another process has it, unless ``wait``.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    end = time.monotonic() + ENDING
    with open(path, "a") as file:
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
                break
            except BlockingIOError:
                if time.monotonic() > end:
                    raise AdminError(in_use(path)) from None
                time.sleep(0.2)
        yield file


def in_use(path):
    """Return the message of a lock that another process holds: which, and the way out."""
    found = machine.holders(path)
    who = "".join(
        f"\n  process {pid}: {' '.join(line.split())[:150]}" for pid, line in sorted(found.items())
    )
    way = (
        f"kill {' '.join(str(pid) for pid in sorted(found))}"
        if found
        else "end it on the machine where it runs"
    )
    return (
        f"{path.parent} is in use by another training{':' if who else ''}{who}\nWait for its end, or end it ({way}); "
        "then the same command goes on"
    )


def remember(folder, recipe, settings, words):
    """Write run.json, or compare with the one that is there.

    Raises:
        AdminError: if the folder holds a run with another command.
    """
    path = folder / "run.json"
    facts = {
        "recipe": recipe.name,
        "recipe_file": str(recipe.path.resolve()),
        "settings": settings.as_dict(),
    }
    facts.update(
        variant=settings.variant(),
        command=words,
        commit=machine.commit(),
        versions=machine.versions(),
        hardware=machine.hardware(settings),
        tokens_per_update=command.batch_of(recipe, settings).tokens,
        dictionaries=command.dictionaries(recipe, settings.data),
    )
    if path.exists():
        check_corpus(folder, recipe, settings.data)
        before = outcome.load_run(folder).get("command")
        if before is None:
            raise AdminError(f"{path} is damaged: name another --dest")
        if before != words:
            gone, new = (
                [w for w in a if w not in b] for a, b in ((before, words), (words, before))
            )
            raise AdminError(
                f"{folder} holds a run with other flags (then: {shlex.join(gone) or 'another order'}; now: "
                f"{shlex.join(new) or 'another order'}): name another --dest"
            )
        return
    with replacing(path) as file:
        file.write((json.dumps(facts, indent=1) + "\n").encode())


def check_corpus(folder, recipe, data):
    """Refuse a data-bin whose dictionaries are not those that a run was begun with."""
    begun = outcome.load_run(folder).get("dictionaries")
    if begun not in (None, command.dictionaries(recipe, data)):
        raise AdminError(
            f"{data}/data-bin is not what {folder} was begun with: its dictionaries are others. Name the other with --data, "
            "prepare it again, or train anew, into another --dest"
        )


def measure(recipe, settings, profile):
    """Write the profile that the runs of this model share, unless it is there: one batch, the profile's seed."""
    with locked(profile.parent / "lock", wait=True):
        if profile.exists():
            return
        words = command.fairseq_train(recipe, settings, profile.parent, profile, stage="profile")
        log = profile.with_suffix(".log")
        logger.info("profiling: %s", profile)
        with open(log, "a") as file:
            code = machine.run(words, file)
        if code or not profile.exists():
            raise RunFailed(f"profiling failed (exit code {code}): see {log}")


def wait_for(profile, patience=1800):
    """Wait until the first machine has written the profile, into a folder that all see."""
    end = time.monotonic() + patience
    while profile is not None and not profile.exists():
        if time.monotonic() > end:
            raise AdminError(
                f"{profile} did not appear within {patience} s: is the folder shared by all machines?"
            )
        time.sleep(POLL)


def whole(path):
    """Whether a checkpoint was written to its end: a zip file whose check sums are right."""
    try:
        with zipfile.ZipFile(path) as file:
            return file.testzip() is None
    except (OSError, zipfile.BadZipFile, EOFError):
        return False


def restore_last(folder):
    """Make checkpoint_last.pt the newest whole checkpoint.

    fairseq writes an epoch's checkpoint with care, and then copies it to checkpoint_last.pt and
    checkpoint_best.pt without: killed meanwhile, it leaves a part there, and does not start again.
    """
    last = folder / "checkpoint_last.pt"
    candidates = sorted(
        folder.glob("checkpoint*.pt"), key=lambda path: path.stat().st_mtime, reverse=True
    )
    newest = next((path for path in candidates if whole(path)), None)
    if newest is None and candidates:
        logger.warning("%s: no checkpoint is whole; training starts anew", folder)
    if newest not in (None, last):
        logger.warning("%s: going on from %s", folder, newest.name)
        part = folder / "checkpoint_last.pt.part"
        shutil.copyfile(newest, part)
        os.replace(part, last)
    for path in (last, folder / "checkpoint_best.pt"):
        if path.exists() and not whole(path):
            logger.warning("%s is half-written: removed", path)
            path.unlink()


def train(words, folder, lock):
    """Run fairseq-train into train.log; return the outcome if the run diverged, None if it ended.

    Raises:
        RunFailed: if it failed otherwise.
    """
    log = folder / "train.log"
    begun = log.stat().st_size if log.exists() else 0
    logger.info("%s: training, see %s", folder, log)
    with machine.session(folder), open(log, "a") as file:
        process = subprocess.Popen(
            words,
            stdout=file,
            stderr=subprocess.STDOUT,
            pass_fds=[lock.fileno()],
            start_new_session=True,
            preexec_fn=machine.end_too(),
        )
        try:
            non_finite = watch(process, log, begun)
        finally:
            machine.end(process)
    text = _since(log, begun)
    if non_finite is not None:
        return outcome.save(folder, "diverged", update=non_finite, reason="non-finite loss")
    reason = outcome.crash_reason(text) if process.returncode else None
    if reason:
        return outcome.save(folder, "diverged", update=outcome.last_update(folder), reason=reason)
    if process.returncode or "done training" not in text:
        raise RunFailed(
            f"{folder}: fairseq-train failed (exit code {process.returncode}): see {log}"
        )
    return None


def watch(process, log, begun):
    """Wait for a training; return the update at which its log shows a non-finite loss, or None if it ended."""
    while True:
        try:
            process.wait(POLL)
        except subprocess.TimeoutExpired:
            pass
        bad = outcome.first_non_finite(_records(_since(log, begun)))
        begun = max(
            begun, log.stat().st_size - 65536
        )  # the last records again: a line may have been half written
        if bad is not None or process.returncode is not None:
            return bad


def _records(text):
    """Return the training records of a log's text that were written to their end."""
    lines = (line.partition(" | train_inner | ")[2] for line in text.splitlines())
    records = [json.loads(line) for line in lines if line.startswith("{") and line.endswith("}")]
    return [
        {"loss": record.get("loss", 0), "num_updates": int(record["num_updates"])}
        for record in records
    ]


def _since(log, begun):
    with open(log, "rb") as file:
        file.seek(begun)
        return file.read().decode(errors="replace")


def _other_node(words, folder, rank):
    log = folder / f"train.node{rank}.log"
    folder.mkdir(parents=True, exist_ok=True)
    with open(log, "a") as file:
        code = machine.run(words, file)
    if code:
        raise RunFailed(f"fairseq-train failed on this machine (exit code {code}): see {log}")
    return {"state": "done", "update": outcome.last_update(folder)}
