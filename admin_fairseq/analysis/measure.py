"""One run of ``admin-fairseq analyze``: flags -> data and models -> tables and a figure."""

from __future__ import annotations

import contextlib
import logging
import os
import shlex
import sys
from argparse import Namespace
from collections.abc import Iterator, Sequence
from typing import Any

import fairseq
import torch

from ..errors import AdminError
from ..init_types import method_of
from ..profile.first_step import is_out_of_memory
from ..version import __version__
from . import figures, subject, tables
from .kinds import KINDS
from .words import method_word

logger = logging.getLogger(__name__)


def measure(kind: str, options: Namespace, words: Sequence[str], argv: Sequence[str]) -> None:
    """Analyse, print a summary, and write ``PREFIX.png``, ``.pdf``, ``.tsv`` and ``.json``.

    Args:
        kind: one of :data:`kinds.KINDS`.
        options: the flags of ``admin-fairseq analyze``.
        words: the data-bin and flags of fairseq-train.
        argv: all words of the command, for the record.

    Raises:
        AdminError: for mistakes in flags, data or checkpoints.
    """
    # what fairseq says of itself is not part of the report
    logging.getLogger("fairseq").setLevel(logging.WARNING)
    words = _without_user_dir(words)
    with _argv_of_fairseq(words):
        args = subject.parse_flags(words)
    names_init_type = any(word.startswith("--init-type") for word in words)
    # without --models it compares six methods, unless the flags ask for one
    if kind == "output-change" and options.models is None and names_init_type:
        options.models = {method_word(method_of(args)): None}
    task = subject.load_task(args)
    sample = subject.load_batch(task, args, options.batch)
    with _fitting_errors():
        rows, summary = KINDS[kind](options, args, task, sample)
    figures.draw(kind, options.out, rows, summary)
    # the JSON file comes last: where it is, all are
    tables.write(options.out, rows, _provenance(argv, args, sample), summary)
    logger.info("written: %s.{tsv,json,png,pdf}", options.out)


def _without_user_dir(words: Sequence[str]) -> list[str]:
    """Drop this plugin's own ``--user-dir``: a second copy of it elsewhere would not load."""
    kept, rest = [], list(words)
    while rest:
        word = rest.pop(0)
        flag, equals, value = word.partition("=")
        if flag != "--user-dir":
            kept.append(word)
            continue
        if not equals:
            value = rest.pop(0) if rest else ""
        if os.path.basename(os.path.normpath(value)) != "admin_fairseq":
            kept += [flag, value]
    return kept


@contextlib.contextmanager
def _argv_of_fairseq(words: Sequence[str]) -> Iterator[None]:
    """Let ``sys.argv`` be these words: fairseq looks for --user-dir there, whatever it is given."""
    before, sys.argv = sys.argv, [sys.argv[0], *words]
    try:
        yield
    finally:
        sys.argv = before


@contextlib.contextmanager
def _fitting_errors() -> Iterator[None]:
    """Say in one message what torch says of a batch that does not fit the model or the memory."""
    try:
        yield
    except IndexError as error:
        if "index out of range in self" not in str(error):  # what torch says of an embedding
            raise
        raise AdminError(
            "a sentence is longer than a model has positions: lower --max-source-positions"
        ) from None
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        raise AdminError(
            "the batch does not fit into memory in float64: lower --max-tokens"
        ) from None


def _provenance(argv: Sequence[str], args: Namespace, sample: dict[str, Any]) -> dict[str, Any]:
    """Return what it takes to make the numbers again."""
    return {
        "command": f"{tables.COMMAND} {shlex.join(argv)}",
        "admin_fairseq": __version__,
        "fairseq": fairseq.__version__,
        "torch": torch.__version__,
        "seed": args.seed,
        "precision": "float64",
        "sentences": sample["nsentences"],
        "target_tokens": sample["ntokens"],
        "device": sample["net_input"]["src_tokens"].device.type,
    }
