"""The kinds of analysis: each runs its probe on every model, prints a summary and draws the figure.

All take (own, args, task, sample): the flags of ``admin-fairseq analyze``, those of fairseq-train, the
task and its batch; and return (rows, summary), which ``tables`` writes.
"""

import logging
from collections import OrderedDict, namedtuple

from ..errors import AdminError
from . import dependency, figures, gradients, output_change, stability, subject

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
            print(f"{name}, {stack}")
            print(
                "   diagonal, each branch in its own output: ",
                *(f"{row.beta[-1]:.2f}" for row in stack_rows),
            )
            print(
                "   last output, embedding first:            ",
                *(f"{value:.2f}" for value in stack_rows[-1].beta),
            )
            print(
                f"   components add up to the output within {error:.0e}; they are correlated: squares of a row"
            )
            print(f"   add up to 1 only within {off:.3f}")
            summary[f"{name}, {stack}"] = {
                "sum of squares off 1": off,
                "reconstruction error": error,
            }
    figures.save_dependency(own.out, rows)
    return rows, summary


def run_output_change(own, args, task, sample):
    criterion = subject.build_criterion(args, task)
    rows = []
    for name, word in (own.models or {word: word for word in SWEEP}).items():
        fresh = word is None or word in subject.METHODS
        for depth in own.depths if fresh else [None]:
            model = None
            for seed in range(args.seed, args.seed + own.seeds):
                if (
                    fresh or model is None
                ):  # a checkpoint's weights are the same for all seeds of the directions
                    changed = {"encoder_layers": depth, "decoder_layers": depth} if fresh else {}
                    model = subject.build(word, args, task, sample, seed, **changed)
                rows += changes_of(name, model, seed, own, sample, criterion)
        logger.info("%s: done", name)
    fits, points = output_change.fits(rows), output_change.points(rows)
    print(
        "|x_N - x_N*|^2: mean and standard deviation over seeds, by the number of sites of the stack"
    )
    for point in points:
        print(
            f"{point['model']:<14}{point['stack']:<9}{point['perturbation']:<10}{point['sites']:>4} sites  "
            f"{point['mean']:.3g} +- {point['sd']:.2g}"
        )
    print("least-squares fits to the means; the deepest models weigh most")
    for row in fits:
        print(
            f"{row['model']:<14}{row['stack']:<9}{row['perturbation']:<10}"
            + "   ".join(
                f"{law}: {row[law + ' intercept']:.3g} + {row[law + ' slope']:.3g} {x}, R^2 {row[law + ' R^2']:.3f}"
                for law, x in (("O(N)", "N"), ("O(log N)", "ln N"))
            )
        )
    figures.save_output_change(own.out, rows)
    return rows, {"fits": fits, "points": points}


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
        loss, found = gradients.gradient_norms(
            model, sample, criterion, own.with_dropout, args.seed
        )
        rows += [{"model": name, **row} for row in found]
        layers = gradients.by_layer(found)
        by_name = {f"{stack}.layers.{layer}": value for (stack, layer), value in layers.items()}
        summary[name] = {"loss": loss, "by layer": by_name}
        print(f"{name}: loss {loss:.3f} nats a token; gradient norm by layer")
        for stack in ("encoder", "decoder"):
            print(
                f"   {stack}:",
                *(f"{value:.3g}" for (of, _), value in layers.items() if of == stack),
            )
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


def models(own, args, task, sample):
    """Yield (label, model) for every word of ``--models``; without it, for the flags as they are."""
    for name, word in (own.models or {subject.describe(args): None}).items():
        yield name, subject.build(word, args, task, sample)


KINDS = OrderedDict(
    [
        (
            "dependency",
            Kind(run_dependency, "which branches each output is made of (beta), as heatmaps"),
        ),
        (
            "output-change",
            Kind(run_output_change, "how far the last output moves when weights do, against depth"),
        ),
        (
            "gradients",
            Kind(run_gradients, "gradient norms by residual site and by layer, at one step"),
        ),
        (
            "stability",
            Kind(run_stability, "why does it diverge? All of these on one model, with advice"),
        ),
    ]
)
