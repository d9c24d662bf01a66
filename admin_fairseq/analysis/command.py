"""``admin-fairseq analyze KIND DATA-BIN [--models ...] [flags of fairseq-train]``."""

import argparse
import contextlib
import logging
import os
import re
import shlex
import sys
from collections import OrderedDict

import fairseq
import torch

from ..errors import AdminError, raise_all
from ..version import __version__
from . import figures, subject, tables, trace
from .kinds import DEPTHS, KINDS

logger = logging.getLogger(__name__)
TRACE_HELP = "draw what --trace-interval logged during training: omega, beta and gradients by site"


def main_trace(argv):
    """Run ``admin-fairseq analyze trace LOG``."""
    parser = argparse.ArgumentParser(prog="admin-fairseq analyze trace", description=TRACE_HELP)
    parser.add_argument("log", help="log of fairseq-train --log-format json --trace-interval N")
    parser.add_argument(
        "--out", default="trace", metavar="PREFIX", help="writes PREFIX.tsv, .json, .png, .pdf"
    )
    own = parser.parse_args(argv)
    rows = trace.rows_of(own.log)
    figures.save_trace(own.out, rows)
    tables.write(own.out, rows, {"command": "admin-fairseq analyze trace " + shlex.join(argv)})
    logger.info("written: %s.{tsv,json,png,pdf}", own.out)
    return 0


def named(words):
    """Return ``{label: word}``: ``LABEL=WORD`` names itself, a checkpoint is called after the end of its path.

    Raises:
        AdminError: if two labels are the same.
    """
    found, problems = OrderedDict(), []
    for word in words:
        name, equals, rest = word.partition("=")
        if not equals or os.path.exists(word):
            name, rest = label(word, words), word
        elif not name or not rest:
            problems.append(f"{word}: LABEL=WORD has both")
        if name in found:
            problems.append(f"{name}: twice; tell them apart with LABEL=WORD")
        found[name] = rest
    raise_all("--models:", problems)
    return found


def label(word, words):
    """Return a method's name, or as much of a checkpoint's path as tells it apart."""
    if word in subject.METHODS:
        return word
    short = os.path.join(
        os.path.basename(os.path.dirname(os.path.abspath(word))), os.path.basename(word)
    )
    return short if sum(other.endswith(short) for other in words) == 1 else word


def own_parser(kind):
    parser = argparse.ArgumentParser(
        prog=f"admin-fairseq analyze {kind}",
        usage="%(prog)s DATA-BIN [--models WORD ...] [--out PREFIX] [...] [flags of fairseq-train]",
        description=f"{KINDS[kind].help[0].upper()}{KINDS[kind].help[1:]}. Takes all flags of fairseq-train, and reads those "
        "of the architecture (default: admin_transformer; a checkpoint has its own), the batch (--max-tokens, default 1024; "
        "--train-subset), the criterion (default: fairseq's cross_entropy) and --seed. Runs in float64, on one batch.",
        allow_abbrev=False,
    )
    parser.add_argument(
        "--models",
        nargs="+",
        metavar="WORD",
        help=f"checkpoints, or methods at their first step: {', '.join(subject.METHODS)}; LABEL=WORD names one "
        + (
            "(default: six of them)"
            if kind == "output-change"
            else "(default: what --init-type says)"
        ),
    )
    parser.add_argument(
        "--out",
        default=kind,
        metavar="PREFIX",
        help="writes PREFIX.tsv, .json, .png, .pdf (default: %(default)s)",
    )
    parser.add_argument(
        "--with-dropout", action="store_true", help="in training mode, with the masks of --seed"
    )
    parser.add_argument(
        "--batch",
        type=int,
        default=1,
        metavar="N",
        help="the N-th training batch (default: the first)",
    )
    if kind == "output-change":
        parser.add_argument(
            "--depths",
            nargs="+",
            type=int,
            default=DEPTHS,
            metavar="L",
            help="layers of encoder and decoder",
        )
        parser.add_argument(
            "--seeds", type=int, default=3, metavar="K", help="K seeds, from --seed on"
        )
    return parser


def main(argv):
    """Run ``admin-fairseq analyze``; returns the exit code.

    Raises:
        AdminError: for mistakes in flags, data or checkpoints.
    """
    top = argparse.ArgumentParser(
        prog="admin-fairseq analyze",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description="\n".join(f"{name:<15}{kind.help}" for name, kind in KINDS.items())
        + f"\n{'trace':<15}{TRACE_HELP}",
        epilog="Each has its own --help.",
    )
    top.add_argument("kind", choices=[*KINDS, "trace"])
    kind = top.parse_args(argv[:1]).kind
    if kind == "trace":
        return main_trace(argv[1:])
    parser = own_parser(kind)
    own, words = parser.parse_known_args(argv[1:])
    own.models = named(own.models) if own.models else None
    check_own(own)
    check_out(own)
    quieten()
    words = without_user_dir(words)
    with fairseqs_own_look_at(words):
        args = subject.parse_flags(words)
    if (
        kind == "output-change"
        and own.models is None
        and any(word.startswith("--init-type") for word in words)
    ):
        own.models = {subject.describe(args): None}
    task = subject.load_task(args)
    sample = subject.first_batch(task, args, own.batch)
    try:
        rows, summary = KINDS[kind].run(own, args, task, sample)
    except IndexError as error:
        if "index out of range in self" not in str(error):  # what torch says of an embedding
            raise
        raise AdminError(
            "a sentence is longer than a model has positions: lower --max-source-positions"
        ) from None
    except RuntimeError as error:
        if "out of memory" not in str(error):
            raise
        raise AdminError(
            "the batch does not fit into memory in float64: lower --max-tokens"
        ) from None
    tables.write(own.out, rows, provenance(argv, args, sample), summary)
    logger.info("written: %s.{tsv,json,png,pdf}", own.out)
    return 0


def check_out(own):
    """Refuse an ``--out`` that nothing can be written to, before the work and not after it."""
    own.out = re.sub(r"\.(tsv|json|png|pdf)$", "", own.out)
    folder, name = os.path.split(own.out)
    if not name:
        raise AdminError(
            f"--out {own.out}: a prefix for file names is wanted, such as {own.out}result"
        )
    try:
        os.makedirs(folder or ".", exist_ok=True)
        if not os.access(folder or ".", os.W_OK):
            raise PermissionError("not writable")
    except OSError as error:
        raise AdminError(f"--out {own.out}: cannot be written: {error}") from None


def check_own(own):
    """Refuse numbers that make no sense."""
    numbers = [("--batch", own.batch), ("--seeds", getattr(own, "seeds", 1))]
    numbers += [("--depths", depth) for depth in getattr(own, "depths", ())]
    for flag, number in numbers:
        if number < 1:
            raise AdminError(f"{flag} {number}: must be 1 or more")


def without_user_dir(words):
    """Drop this plugin's own ``--user-dir``: it is here, and a second copy of it elsewhere would not load."""
    kept, words = [], list(words)
    while words:
        word = words.pop(0)
        flag, equals, value = word.partition("=")
        if flag == "--user-dir":
            value = value if equals else (words.pop(0) if words else "")
            if os.path.basename(os.path.normpath(value)) != "admin_fairseq":
                kept += [flag, value]
        else:
            kept.append(word)
    return kept


@contextlib.contextmanager
def fairseqs_own_look_at(words):
    """Let ``sys.argv`` be these words: fairseq looks for --user-dir there, whatever it is given."""
    before, sys.argv = sys.argv, [sys.argv[0], *words]
    try:
        yield
    finally:
        sys.argv = before


def quieten():
    """Keep what fairseq says about itself out of the report."""
    logging.getLogger("fairseq").setLevel(logging.WARNING)


def provenance(argv, args, sample):
    """Return what it takes to make the numbers again."""
    return OrderedDict(
        command="admin-fairseq analyze " + shlex.join(argv),
        admin_fairseq=__version__,
        fairseq=fairseq.__version__,
        torch=torch.__version__,
        seed=args.seed,
        precision="float64",
        sentences=sample["nsentences"],
        target_tokens=sample["ntokens"],
        device=sample["net_input"]["src_tokens"].device.type,
    )
