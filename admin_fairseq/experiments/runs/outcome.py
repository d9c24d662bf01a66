"""How a run ended: done, or diverged at which update, by which rule.

Rules, in this order:

1. **non-finite**: fairseq stops with ``FloatingPointError`` (non-finite gradients), or its log
   shows a loss that is not finite. n is the last update that was logged: divergence came within
   one ``--log-interval`` after it.
2. **loss scale**: fairseq stops because the fp16 loss scale fell to its floor
   (``--threshold-loss-scale``). n as above.
3. **plateau**: the run ended, but its last validation loss gained too little over a unigram model
   of the target side. n is the update of its lowest validation loss: it learned nothing after.
   Too little is less than the larger of

   - 1 % of the unigram model's loss;
   - a quarter of the gain of the reference: the best loss that any finished run of the same recipe
     in the same folder (any init type, depth and seed; itself included) had after as many updates,
     or the recipe's ``reference-nll``, if that is better and the run is as long as the recipe's.

   Why: Post-LN fails quietly, at or a little below the unigram model, with every loss finite. A
   quarter separates all runs of nmt-experiments/init_types.md (failed: below 22 %, trained: above
   79 %). The percent is for runs that have no better one beside them yet: 6.747 bits is not
   learning where the unigram model has 6.75. Runs that end within their warm-up are not judged.

The verdicts are a function of the set of finished runs, not of their order: whenever a run ends,
all that have ended before it are judged anew (:func:`judge`). A loss is compared with what others
had at the same update, so that a shorter training is not called diverged for being short; curves of
finished runs no longer change, so this too depends on the set alone.
"""

from __future__ import annotations

import logging
import math
from pathlib import Path
from typing import Any

from ...errors import AdminError
from ...files import locked
from ...logs import Curve, Record
from ..recipe import read_recipe
from .record import Log, Outcome, flag_of, load_log, load_outcome, load_run, save_outcome
from .unigram import unigram_bits

logger = logging.getLogger(__name__)
_ENOUGH = 0.25  # of the reference's gain over a unigram model
_LEAST = 0.01  # of the unigram model's loss
_PLATEAU = "plateau"


def describe(outcome: Outcome) -> str:
    """Return an outcome as one phrase."""
    if outcome["state"] == "diverged":
        return f"diverged at update {outcome['update']} ({outcome['reason']})"
    return f"done after {outcome['update']} updates"


def crash_reason(text: str) -> str | None:
    """Return why fairseq stopped, if the run diverged; ``text``: the log since it was started."""
    if "FloatingPointError: Minimum loss scale reached" in text:
        return "loss scale at its floor"
    if "FloatingPointError" in text and "gradients are inconsistent between workers" not in text:
        return "non-finite gradients"
    return None


def first_non_finite(records: list[Record]) -> int | None:
    """Return the update of the first record whose loss is not finite, or None."""
    for record in records:
        loss = record.get("loss")
        if isinstance(loss, (int, float)) and not math.isfinite(loss):
            return int(record["num_updates"])
    return None


def plateau(
    own: Curve,
    others: list[Curve],
    unigram: float,
    warmup: int = 0,
    reference: float = math.inf,
) -> int | None:
    """Return the update at which a run diverged by the plateau rule, or None.

    Args:
        own: the run's validation curve, [(updates, bits)].
        others: the curves of the runs that it is compared with.
        unigram: validation loss of a unigram model, in bits a token.
        warmup: updates before which nothing is judged.
        reference: another loss that it is compared with, in bits a token.
    """
    if not own or own[-1][0] <= warmup:
        return None
    end, last = own[-1]
    best = min(last, reference) if math.isfinite(last) else reference
    for other in others:
        if other and other[-1][0] >= end:
            reached = [bits for at, bits in other if at <= end]
            if reached and math.isfinite(reached[-1]):
                best = min(best, reached[-1])
    if math.isfinite(last):
        enough = max(_LEAST * unigram, _ENOUGH * (unigram - best))
        if unigram - last >= enough:
            return None

    def finite_loss(point: tuple[int, float]) -> float:
        return point[1] if math.isfinite(point[1]) else math.inf

    return min(own, key=finite_loss)[0]


def judge(folder: str | Path, crash: Outcome | None = None) -> Outcome:
    """Write and return the outcome of a training that ended.

    The finished runs of the same recipe beside it are judged anew: one that was the best so far may
    be no better than a unigram model beside this one.

    Args:
        folder: the run's folder.
        crash: its outcome, if it is known from how fairseq-train ended.

    Raises:
        AdminError: if the run's data is missing.
    """
    folder = Path(folder)
    with locked(folder.parent / "outcomes.lock"):
        beside = _finished_beside(folder)
        logs = {run: load_log(run) for run in [folder, *beside]}
        outcome = crash or _verdict(folder, logs)
        save_outcome(folder, outcome)
        for run in beside:
            _judge_anew(run, logs)
    return outcome


def _finished_beside(folder: Path) -> list[Path]:
    recipe = load_run(folder).get("recipe")
    found = []
    for path in sorted(folder.parent.glob("*/outcome.json")):
        if path.parent != folder and load_run(path.parent).get("recipe") == recipe:
            found.append(path.parent)
    return found


def _judge_anew(folder: Path, logs: dict[Path, Log]) -> None:
    try:
        before = load_outcome(folder)
        after = _verdict(folder, logs) if can_change(before) else before
    except AdminError as error:  # its data may have been removed: that is no mistake of this run
        logger.warning("%s: not judged anew: %s", folder, error)
        return
    if after != before:
        save_outcome(folder, after)
    if after["state"] != before["state"]:
        logger.warning(
            "%s: now %s; admin-fairseq evaluate corrects its lines in results.tsv",
            folder,
            describe(after),
        )


def can_change(outcome: Outcome) -> bool:
    """Whether a verdict depends on the runs beside it, which those of crashes do not."""
    return outcome["state"] == "done" or outcome["reason"].startswith(_PLATEAU)


def _verdict(folder: Path, logs: dict[Path, Log]) -> Outcome:
    """Return the outcome of a training that ran to its end, beside others."""
    log = logs[folder]
    update = first_non_finite(log.train + log.valid)
    if update is not None:
        return {"state": "diverged", "update": update, "reason": "non-finite loss"}
    run, own = load_run(folder), log.curve
    words = run["command"]
    unigram = unigram_bits(words[1], flag_of(words, "-s") or "", flag_of(words, "-t") or "")
    others = [other.curve for name, other in logs.items() if name != folder]
    warmup = int(flag_of(words, "--warmup-updates") or 0)
    update = plateau(own, others, unigram, warmup, _reference(run))
    if update is None:
        return {"state": "done", "update": log.last_update, "unigram_bits": round(unigram, 4)}
    return {
        "state": "diverged",
        "update": update,
        "reason": f"{_PLATEAU}: {own[-1][1]:.2f} bits at the end, unigram model {unigram:.2f}",
        "trained_updates": log.last_update,
    }


def _reference(run: dict[str, Any]) -> float:
    """Return the recipe's reference-nll for a run, in bits a token; infinite if it has none.

    It holds for trainings of the recipe's own length: a shorter one could not reach it.
    """
    settings = run["settings"]
    shorter = settings.get("updates") or settings["no_warmup"]
    for word in settings["extra"]:
        shorter = shorter or word.startswith(("--max-update", "--max-epoch"))
    if shorter:
        return math.inf
    try:
        recipe = read_recipe(run["recipe_file"])
    except AdminError as error:
        logger.warning("%s", error)
        return math.inf
    value = recipe.get("evaluation", "reference-nll", settings["layers"])
    return math.inf if value is None else float(value)
