"""How a run ended: done, or diverged at which update, by which rule.

Rules, in this order:

1. **non-finite**: fairseq stops with ``FloatingPointError`` (non-finite gradients), or its log shows a loss that is
   not finite. n is the last update that was logged: divergence came within one ``--log-interval`` after it.
2. **loss scale**: fairseq stops because the fp16 loss scale fell to its floor (``--threshold-loss-scale``). n as above.
3. **plateau**: the run ended, but its last validation loss gained less than a quarter of what the best run of the
   same recipe in the same folder (any init type, depth and seed; itself included) had gained, over a unigram model of
   the target side, after as many updates. n is the update of its lowest validation loss: it learned nothing after.
   Why: Post-LN fails quietly, at or a little below the unigram model, with every loss finite. A quarter separates all
   runs of nmt-experiments/init_types.md (failed: below 22%, trained: above 79%). Alone in its folder, a run is
   diverged by this rule when it is no better than the unigram model. Runs that end within their warm-up are not judged.
"""

import json
import math
from collections import Counter
from pathlib import Path

from ...errors import AdminError
from ...files import replacing
from ...logs import read_log

ENOUGH = 0.25  # of the best run's gain over a unigram model


def save(folder, state, **facts):
    """Write a run's outcome: ``done`` or ``diverged``, with update and reason."""
    outcome = {"state": state, **facts}
    with replacing(Path(folder) / "outcome.json") as file:
        file.write((json.dumps(outcome, indent=1) + "\n").encode())
    return outcome


def load(folder):
    """Return a run's outcome; an empty dict as long as it has none."""
    path = Path(folder) / "outcome.json"
    try:
        found = json.loads(path.read_text())
        return {**found, "state": found["state"], "update": found["update"]}
    except FileNotFoundError:
        return {}
    except (ValueError, KeyError, TypeError):
        raise AdminError(
            f"{path} is damaged; remove it, and train.sh judges the run anew"
        ) from None


def last_update(folder):
    """Return the last update that the log of a run names, or 0."""
    train, valid = read_log(Path(folder) / "train.log")
    return max([record["num_updates"] for record in (train[-1:] + valid[-1:])], default=0)


def crash_reason(text):
    """Return why fairseq stopped, if the run diverged; ``text``: the log since it was started."""
    if "FloatingPointError: Minimum loss scale reached" in text:
        return "loss scale at its floor"
    if "FloatingPointError" in text and "gradients are inconsistent between workers" not in text:
        return "non-finite gradients"
    return None


def first_non_finite(records):
    """Return the update of the first record whose loss is not finite, or None."""
    for record in records:
        if not math.isfinite(float(record.get("loss", 0))):
            return record["num_updates"]
    return None


def curve(folder):
    """Return [(updates, validation nll in bits a token)]."""
    return [
        (record["num_updates"], float(record["nll_loss"]))
        for record in read_log(Path(folder) / "train.log")[1]
    ]


def plateau(own, others, unigram, warmup=0):
    """Return the update at which a run diverged by the plateau rule, or None.

    Args:
        own: the run's validation curve, [(updates, bits)].
        others: the curves of the runs that it is compared with.
        unigram: validation loss of a unigram model, in bits a token.
        warmup: updates before which nothing is judged.
    """
    if not own or own[-1][0] <= warmup:
        return None
    end, last = own[-1]
    reached = [
        [bits for at, bits in other if at <= end]
        for other in others
        if other and other[-1][0] >= end
    ]
    best = min([last] + [values[-1] for values in reached if values and math.isfinite(values[-1])])
    if math.isfinite(last) and unigram - last >= ENOUGH * (unigram - best) and last < unigram:
        return None
    return min(own, key=lambda point: point[1] if math.isfinite(point[1]) else math.inf)[0]


def unigram_bits(data_bin, source, target):
    """Return the validation set's loss under the training set's target unigrams, in bits a token."""
    from fairseq.data import Dictionary, data_utils

    words = Dictionary.load(str(Path(data_bin) / f"dict.{target}.txt"))
    counts = {}
    for split in ("train", "valid"):
        dataset = data_utils.load_indexed_dataset(
            str(Path(data_bin) / f"{split}.{source}-{target}.{target}"), words
        )
        counts[split] = Counter()
        for index in range(len(dataset)):
            counts[split].update(dataset[index].tolist())
    total = sum(counts["train"].values())
    bits = sum(
        n * -math.log2(max(counts["train"][token], 1) / total)
        for token, n in counts["valid"].items()
    )
    return bits / sum(counts["valid"].values())


def flag_of(words, name):
    """Return the value that counts of a flag in a command: its last; None if it is not there."""
    found = [words[at + 1] for at, word in enumerate(words[:-1]) if word == name]
    found += [word.split("=", 1)[1] for word in words if word.startswith(name + "=")]
    return found[-1] if found else None


def judge(folder):
    """Write and return the outcome of a training that ran to its end.

    A verdict can change when better runs of the recipe have come into the folder beside it.
    """
    folder = Path(folder)
    train, valid = read_log(folder / "train.log")
    update = first_non_finite(train + valid)
    if update is not None:
        return save(folder, "diverged", update=update, reason="non-finite loss")
    run = load_run(folder)
    others = [
        curve(other.parent)
        for other in folder.parent.glob("*/outcome.json")
        if other.parent != folder and load_run(other.parent).get("recipe") == run["recipe"]
    ]
    words = run["command"]
    unigram = unigram_bits(words[1], flag_of(words, "-s"), flag_of(words, "-t"))
    update = plateau(curve(folder), others, unigram, int(flag_of(words, "--warmup-updates") or 0))
    if update is None:
        return save(folder, "done", update=last_update(folder), unigram_bits=round(unigram, 4))
    reason = f"plateau: {curve(folder)[-1][1]:.2f} bits at the end, unigram model {unigram:.2f}"
    return save(
        folder, "diverged", update=update, reason=reason, trained_updates=last_update(folder)
    )


def load_run(folder):
    """Return what run.json says of a run; an empty dict if there is none that can be read."""
    try:
        return json.loads((Path(folder) / "run.json").read_text())
    except (OSError, ValueError):
        return {}
