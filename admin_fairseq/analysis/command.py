"""``admin-fairseq analyze KIND DATA-BIN [--models ...] [flags of fairseq-train]``.

What is parsed here needs neither torch nor fairseq; measuring a model does, and is in ``measure``.
"""

from __future__ import annotations

import logging
import os
import re
import shlex
from argparse import ArgumentParser, Namespace, RawDescriptionHelpFormatter
from collections.abc import Sequence

from ..errors import AdminError
from ..files import is_special
from . import figures, tables, trace
from .words import method_words, parse_models, parse_pairs

logger = logging.getLogger(__name__)

# kinds that measure a model
MEASURED = {
    "dependency": "which branches each output is made of (beta), as heatmaps",
    "output-change": "how far the last output moves when weights do, against depth",
    "gradients": "gradient norms by residual site and by layer, at one step",
    "updates": "how far weights moved between two checkpoints, against their gradients",
    "stability": "why does it diverge? Dependency, output change, gradients, with advice",
}
TRACE_HELP = "draw what --trace-interval logged during training: omega, beta and gradients by site"
REDRAW_HELP = "draw figures again from the numbers that an analysis saved"
DEPTHS = (1, 2, 3, 6, 12, 24, 48, 100)
_PAIR = "LABEL=BEFORE,AFTER"
_ENDINGS = re.compile(r"\.(tsv|json|png|pdf)$")


def needs_plugin(words: Sequence[str]) -> bool:
    """Whether the words after ``analyze`` ask for a model, and so for torch and fairseq."""
    asks_for_help = "-h" in words or "--help" in words
    return bool(words) and words[0] in MEASURED and not asks_for_help


def main(argv: Sequence[str]) -> int:
    """Run ``admin-fairseq analyze`` with the words after it.

    Returns:
        The exit code.

    Raises:
        AdminError: for mistakes in flags, data or checkpoints.
    """
    kind = _kinds_parser().parse_args(argv[:1]).kind
    if kind == "trace":
        return _draw_trace(argv)
    if kind == "redraw":
        return _redraw(argv)
    options, words = _measuring_parser(kind).parse_known_args(argv[1:])
    if options.models:
        parse = parse_pairs if kind == "updates" else parse_models
        options.models = parse(options.models)
    _check_numbers(options)
    options.out = _checked_prefix(options.out)

    from .measure import measure  # imports torch and fairseq

    measure(kind, options, words, argv)
    return 0


def _kinds_parser() -> ArgumentParser:
    kinds = {**MEASURED, "trace": TRACE_HELP, "redraw": REDRAW_HELP}
    parser = ArgumentParser(
        prog="admin-fairseq analyze",
        formatter_class=RawDescriptionHelpFormatter,
        description="\n".join(f"{name:<15}{text}" for name, text in kinds.items()),
        epilog="Each has its own --help.",
    )
    parser.add_argument("kind", choices=list(kinds))
    return parser


def _measuring_parser(kind: str) -> ArgumentParser:
    """Return the parser of the flags that fairseq-train does not have."""
    purpose = MEASURED[kind]
    models = f"--models {_PAIR} ..." if kind == "updates" else "[--models WORD ...]"
    parser = ArgumentParser(
        prog=f"admin-fairseq analyze {kind}",
        usage=f"%(prog)s DATA-BIN {models} [--out PREFIX] [...] [flags of fairseq-train]",
        description=f"{purpose[0].upper()}{purpose[1:]}. Takes all flags of fairseq-train, and "
        "reads those of the architecture (default: admin_transformer; a checkpoint has its own), "
        "the batch (--max-tokens, default 1024; --train-subset), the criterion (default: fairseq's "
        "cross_entropy) and --seed. Runs in float64, on one batch.",
        # else --seed, which is fairseq-train's, would be short for our --seeds
        allow_abbrev=False,
    )
    _add_models(parser, kind)
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
        _add_sweep(parser)
    return parser


def _add_models(parser: ArgumentParser, kind: str) -> None:
    if kind == "updates":
        parser.add_argument(
            "--models",
            nargs="+",
            required=True,
            metavar=_PAIR,
            help="pairs of checkpoints, each of one training, the earlier first; the gradient is "
            "that of the earlier. Paths may hold commas: a word is split at the one that has a "
            "file on both sides",
        )
        return
    default = "six of them" if kind == "output-change" else "what --init-type says"
    parser.add_argument(
        "--models",
        nargs="+",
        metavar="WORD",
        help=f"checkpoints, or methods at their first step: {', '.join(method_words())}; "
        f"LABEL=WORD names one (default: {default})",
    )


def _add_sweep(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--depths",
        nargs="+",
        type=int,
        default=DEPTHS,
        metavar="L",
        help="layers of encoder and decoder",
    )
    parser.add_argument("--seeds", type=int, default=3, metavar="K", help="K seeds, from --seed on")


def _check_numbers(options: Namespace) -> None:
    """Refuse numbers that make no sense."""
    numbers = [("--batch", options.batch), ("--seeds", getattr(options, "seeds", 1))]
    for depth in getattr(options, "depths", ()):
        numbers.append(("--depths", depth))
    for flag, number in numbers:
        if number < 1:
            raise AdminError(f"{flag} {number}: must be 1 or more")


def _checked_prefix(out: str) -> str:
    """Return ``--out`` without an ending, once its folder is made: before the work, not after it.

    Raises:
        AdminError: if nothing can be written there.
    """
    # whoever says result.png gets result.tsv beside it, and no result.png.tsv
    prefix = _ENDINGS.sub("", out)
    folder, name = os.path.split(prefix)
    if not name:
        raise AdminError(f"--out {prefix}: must be a prefix for file names, such as {prefix}result")
    if is_special(prefix):
        raise AdminError(f"--out {prefix}: is a device or a pipe, and no prefix for file names")
    try:
        os.makedirs(folder or ".", exist_ok=True)
        if not os.access(folder or ".", os.W_OK):
            raise PermissionError("not writable")
    except OSError as error:
        raise AdminError(f"--out {prefix}: cannot be written: {error}") from None
    return prefix


def _draw_trace(argv: Sequence[str]) -> int:
    """Run ``admin-fairseq analyze trace LOG``."""
    parser = ArgumentParser(prog="admin-fairseq analyze trace", description=TRACE_HELP)
    parser.add_argument("log", help="log of fairseq-train --log-format json --trace-interval N")
    parser.add_argument(
        "--out", default="trace", metavar="PREFIX", help="writes PREFIX.tsv, .json, .png, .pdf"
    )
    options = parser.parse_args(argv[1:])
    options.out = _checked_prefix(options.out)
    rows = trace.read_trace(options.log)
    figures.draw("trace", options.out, rows)
    tables.write(options.out, rows, {"command": f"{tables.COMMAND} {shlex.join(argv)}"})
    logger.info("written: %s.{tsv,json,png,pdf}", options.out)
    return 0


def _redraw(argv: Sequence[str]) -> int:
    """Run ``admin-fairseq analyze redraw PREFIX...``."""
    parser = ArgumentParser(
        prog="admin-fairseq analyze redraw",
        description=f"{REDRAW_HELP.capitalize()}: PREFIX.json -> PREFIX.png and PREFIX.pdf.",
    )
    parser.add_argument("prefixes", nargs="+", metavar="PREFIX", help="the --out of an analysis")
    for given in parser.parse_args(argv[1:]).prefixes:
        prefix = _ENDINGS.sub("", given)
        kind, rows, summary = tables.read(f"{prefix}.json")
        if kind not in figures.KINDS or not rows:
            raise AdminError(f"{prefix}.json: it has no analysis that can be drawn")
        figures.draw(kind, prefix, rows, summary)
        logger.info("written: %s.{png,pdf}", prefix)
    return 0
