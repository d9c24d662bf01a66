"""``admin-fairseq analyze KIND DATA-BIN [--models ...] [flags of fairseq-train]``."""

import argparse
import logging
import os
import shlex
import sys
import warnings
from collections import OrderedDict, namedtuple

import fairseq
import torch

from ..errors import AdminError, raise_all
from ..version import __version__
from . import dependency, figures, gradients, output_change, stability, subject, tables, trace

logger = logging.getLogger(__name__)
DEPTHS = (1, 2, 3, 6, 12, 24, 48, 100)
SWEEP = ("post-ln", "pre-ln", "admin", "deepnet", "rezero", "analytic")

Kind = namedtuple("Kind", "run help")


def run_dependency(own, args, task, sample):
    rows, summary = [], OrderedDict()
    for name, model in models(own, args, task, sample):
        found = dependency.dependency(model, sample, own.with_dropout, args.seed)
        rows += dependency.table(name, found)
        for stack, stack_rows in found.items():
            off = max(abs(row.sum_of_squares - 1) for row in stack_rows)
            error = max(row.error for row in stack_rows)
            print(f"{name}, {stack}: beta of each branch in its own output, then of the last output (embedding first)")
            print("  ", *(f"{row.beta[-1]:.2f}" for row in stack_rows))
            print("  ", *(f"{value:.2f}" for value in stack_rows[-1].beta))
            print(f"   sum of squares off 1 by at most {off:.3f}; components add up to {error:.0e}")
            summary[f"{name}, {stack}"] = {"sum of squares off 1": off, "reconstruction error": error}
    figures.save_dependency(own.out, rows)
    return rows, summary


def run_output_change(own, args, task, sample):
    criterion = subject.build_criterion(args, task)
    rows = []
    for name, word in (own.models or named(SWEEP)).items():
        fresh = word in subject.METHODS
        for depth in own.depths if fresh else [None]:
            model = None
            for seed in range(args.seed, args.seed + own.seeds):
                if fresh or model is None:  # a checkpoint's weights are the same for all seeds of the directions
                    changed = {"encoder_layers": depth, "decoder_layers": depth} if fresh else {}
                    model = subject.build(word, args, task, sample, seed, **changed)
                rows += changes_of(name, model, seed, own, sample, criterion)
        logger.info("%s: done", name)
    fits = output_change.fits(rows)
    for row in fits:
        print(
            f"{row['model']:<14}{row['stack']:<9}{row['perturbation']:<10}"
            + "   ".join(
                f"{law}: {row[law + ' intercept']:.3g} + {row[law + ' slope']:.3g} {x}, R^2 {row[law + ' R^2']:.3f}"
                for law, x in (("O(N)", "N"), ("O(log N)", "ln N"))
            )
        )
    figures.save_output_change(own.out, rows)
    return rows, {"fits": fits, "points": output_change.points(rows)}


def changes_of(name, model, seed, own, sample, criterion):
    sites = subject.count_sites(model)
    return [
        {
            "model": name,
            "stack": stack,
            "sites": sites[stack],
            "perturbation": perturbation,
            "seed": seed,
            "output_change": change,
        }
        for perturbation in output_change.STEPS
        for stack, change in output_change.output_change(
            model, sample, criterion, perturbation, own.with_dropout, seed
        ).items()
    ]


def run_gradients(own, args, task, sample):
    criterion = subject.build_criterion(args, task)
    rows, summary = [], OrderedDict()
    for name, model in models(own, args, task, sample):
        loss, found = gradients.gradient_norms(model, sample, criterion, own.with_dropout, args.seed)
        rows += [{"model": name, **row} for row in found]
        layers = gradients.by_layer(found)
        by_name = {f"{stack}.layers.{layer}": value for (stack, layer), value in layers.items()}
        summary[name] = {"loss": loss, "by layer": by_name}
        print(f"{name}: loss {loss:.3f} nats a token; gradient norm by layer")
        for stack in ("encoder", "decoder"):
            print(f"   {stack}:", *(f"{value:.3g}" for (of, _), value in layers.items() if of == stack))
    figures.save_gradients(own.out, rows)
    return rows, summary


def run_stability(own, args, task, sample):
    if own.models and len(own.models) > 1:
        raise AdminError("--models: stability examines one model at a time")
    word = next(iter(own.models.values())) if own.models else None
    ((name, model),) = models(own, args, task, sample)

    report = stability.examine(
        model,
        name,
        lambda: subject.twin(word, "admin", args, task, sample),
        sample,
        subject.build_criterion(args, task),
        own.with_dropout,
        args.seed,
    )
    print(stability.text(report))
    figures.save_stability(own.out, report)
    norms = {row["site"]: row for row in report.gradients}
    rows = [{**row, **norms[row["site"]]} if norms else row for row in report.largest]
    findings = [finding._asdict() for finding in report.findings]
    return rows, {"facts": report.facts, "findings": findings, "output change": report.changes}


KINDS = OrderedDict(
    [
        ("dependency", Kind(run_dependency, "which branches each output is made of (beta), as heatmaps")),
        ("output-change", Kind(run_output_change, "how far the last output moves when weights do, against depth")),
        ("gradients", Kind(run_gradients, "gradient norms by residual site and by layer, at one step")),
        ("stability", Kind(run_stability, "why does it diverge? All of these on one model, with advice")),
    ]
)

TRACE_HELP = "draw what --trace-interval logged during training: omega, beta and gradients by site"


def main_trace(argv):
    """Run ``admin-fairseq analyze trace LOG``."""
    parser = argparse.ArgumentParser(prog="admin-fairseq analyze trace", description=TRACE_HELP)
    parser.add_argument("log", help="log of fairseq-train --log-format json --trace-interval N")
    parser.add_argument("--out", default="trace", metavar="PREFIX", help="writes PREFIX.tsv, .json, .png, .pdf")
    own = parser.parse_args(argv)
    rows = trace.rows_of(own.log)
    figures.save_trace(own.out, rows)
    tables.write(own.out, rows, {"command": "admin-fairseq analyze trace " + shlex.join(argv)})
    logger.info("written: %s.{tsv,json,png,pdf}", own.out)
    return 0


def models(own, args, task, sample):
    """Yield (label, model) for every word of ``--models``; without it, for the flags as they are."""
    for name, word in (own.models or {subject.describe(args): None}).items():
        yield name, subject.build(word, args, task, sample)


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
        if name in found:
            problems.append(f"{name}: twice; tell them apart with LABEL=WORD")
        found[name] = rest
    raise_all("--models:", problems)
    return found


def label(word, words):
    """Return a method's name, or as much of a checkpoint's path as tells it apart."""
    if word in subject.METHODS:
        return word
    short = os.path.join(os.path.basename(os.path.dirname(os.path.abspath(word))), os.path.basename(word))
    return short if sum(other.endswith(short) for other in words) == 1 else word


def own_parser(kind):
    parser = argparse.ArgumentParser(
        prog=f"admin-fairseq analyze {kind}",
        usage="%(prog)s DATA-BIN [--models WORD ...] [--out PREFIX] [...] [flags of fairseq-train]",
        description=f"{KINDS[kind].help[0].upper()}{KINDS[kind].help[1:]}. Takes all flags of fairseq-train, for the "
        "architecture, the batch (--max-tokens, --train-subset), the criterion and the seed; runs in float64.",
        allow_abbrev=False,
    )
    parser.add_argument(
        "--models",
        nargs="+",
        metavar="WORD",
        help=f"checkpoints, or methods at their first step: {', '.join(subject.METHODS)}; LABEL=WORD names one "
        + ("(default: six of them)" if kind == "output-change" else "(default: what --init-type says)"),
    )
    parser.add_argument(
        "--out", default=kind, metavar="PREFIX", help="writes PREFIX.tsv, .json, .png, .pdf (default: %(default)s)"
    )
    parser.add_argument("--with-dropout", action="store_true", help="in training mode, with the masks of --seed")
    parser.add_argument("--batch", type=int, default=1, metavar="N", help="the N-th training batch (default: the first)")
    if kind == "output-change":
        parser.add_argument(
            "--depths", nargs="+", type=int, default=DEPTHS, metavar="L", help="layers of encoder and decoder"
        )
        parser.add_argument("--seeds", type=int, default=3, metavar="K", help="K seeds, from --seed on")
    return parser


def main(argv):
    """Run ``admin-fairseq analyze``; returns the exit code.

    Raises:
        AdminError: for mistakes in flags, data or checkpoints.
    """
    top = argparse.ArgumentParser(
        prog="admin-fairseq analyze",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description="\n".join(f"{name:<15}{kind.help}" for name, kind in KINDS.items()) + f"\n{'trace':<15}{TRACE_HELP}",
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
    data = [word for word in words if not word.startswith("-")]
    if not data:
        parser.error("DATA-BIN is missing")
    quieten()
    args = subject.parse_flags(without_user_dir(words))
    task = subject.load_task(args)
    sample = subject.first_batch(task, args, own.batch)
    try:
        rows, summary = KINDS[kind].run(own, args, task, sample)
    except IndexError:  # of an embedding
        raise AdminError("a sentence is longer than a model has positions: lower --max-source-positions") from None
    except RuntimeError as error:
        if "out of memory" not in str(error):
            raise
        raise AdminError("the batch does not fit into memory in float64: lower --max-tokens") from None
    tables.write(own.out, rows, provenance(argv, args, sample), summary)
    logger.info("written: %s.{tsv,json,png,pdf}", own.out)
    return 0


def check_own(own):
    """Refuse numbers that make no sense."""
    numbers = [("--batch", own.batch), ("--seeds", getattr(own, "seeds", 1))]
    numbers += [("--depths", depth) for depth in getattr(own, "depths", ())]
    for flag, number in numbers:
        if number < 1:
            raise AdminError(f"{flag} {number}: must be 1 or more")


def without_user_dir(words):
    """Drop ``--user-dir``: the plugin is here, and a second copy of it elsewhere would not load."""
    words = [word for word in words if not word.startswith("--user-dir=")]
    if "--user-dir" in words:
        at = words.index("--user-dir")
        del words[at : at + 2]
    return words


def quieten():
    """Keep what fairseq and torch say about themselves out of the report."""
    logging.getLogger("fairseq").setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", module="torch")


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
