"""The kinds of analysis: each runs its probe on every model, and prints a summary.

All take (options, args, task, sample): the flags of ``admin-fairseq analyze``, those of
fairseq-train, the task and its batch; and return (rows, summary), which ``tables`` writes and
``figures`` draws.
"""

from __future__ import annotations

import logging
from argparse import Namespace
from collections.abc import Callable, Iterator
from typing import Any

from ..errors import AdminError
from ..init_types import method_of
from ..sites import STACKS
from . import dependency, gradients, growth, output_change, pairs, stability, subject, updates
from .findings import format_report
from .words import is_method, method_word

logger = logging.getLogger(__name__)

Sample = dict[str, Any]
Rows = list[dict[str, Any]]
Result = tuple[Rows, dict[str, Any]]
_SWEEP = ("post-ln", "pre-ln", "admin", "deepnet", "rezero", "analytic")


def _run_dependency(options: Namespace, args: Namespace, task: Any, sample: Sample) -> Result:
    """Measure which branches the outputs of every model are made of."""
    rows: Rows = []
    summary = {}
    for name, model in _models(options, args, task, sample):
        found = dependency.dependency(model, sample, options.with_dropout, args.seed)
        rows += dependency.tidy_rows(name, found)
        for stack, stack_rows in found.items():
            off = max(abs(row.sum_of_squares - 1) for row in stack_rows)
            error = max(row.error for row in stack_rows)
            diagonal = [f"{row.beta[-1]:.2f}" for row in stack_rows]
            own_shares = sum(row.beta[-1] ** 2 for row in stack_rows)
            last = [f"{beta:.2f}" for beta in stack_rows[-1].beta]
            print(f"{name}, {stack}")
            print("   diagonal, each branch in its own output: ", *diagonal)
            print(f"   sum of own shares, the diagonal's squares: {own_shares:.2f}")
            print("   last output, embedding first:            ", *last)
            print(
                f"   components add up to the output within {error:.0e}; they are correlated: "
                "squares of a row"
            )
            print(f"   add up to 1 only within {off:.3f}")
            summary[f"{name}, {stack}"] = {
                "sum of own shares": own_shares,
                "sum of squares off 1": off,
                "reconstruction error": error,
            }
    return rows, summary


def _run_output_change(options: Namespace, args: Namespace, task: Any, sample: Sample) -> Result:
    """Measure how far outputs move, of methods at all depths and seeds, and of checkpoints."""
    criterion = subject.build_criterion(args, task)
    rows: Rows = []
    models = options.models or dict(zip(_SWEEP, _SWEEP))
    for name, word in models.items():
        for model, seed in _sweep(word, options, args, task, sample):
            rows += _changes_of(name, model, seed, options, sample, criterion)
        logger.info("%s: done", name)
    summary = {"fits": growth.fits(rows), "points": growth.points(rows)}
    _print_growth(**summary)
    return rows, summary


def _sweep(
    word: str | None, options: Namespace, args: Namespace, task: Any, sample: Sample
) -> Iterator[tuple[Any, int]]:
    """Yield (model, seed): a method at all depths, with weights of every seed; or a checkpoint."""
    seeds = range(args.seed, args.seed + options.seeds)
    if word is not None and not is_method(word):
        model = subject.build_model(word, args, task, sample)
        for seed in seeds:  # of the directions alone: its weights are what they are
            yield model, seed
        return
    for depth in options.depths:
        depths = {"encoder_layers": depth, "decoder_layers": depth}
        for seed in seeds:
            yield subject.build_model(word, args, task, sample, seed, **depths), seed


def _changes_of(
    name: str, model: Any, seed: int, options: Namespace, sample: Sample, criterion: Any
) -> Rows:
    sites = subject.count_sites(model)
    rows: Rows = []
    for perturbation in output_change.STEPS:
        changes = output_change.output_change(
            model, sample, criterion, perturbation, options.with_dropout, seed
        )
        for stack, change in changes.items():
            rows.append(
                {
                    "model": name,
                    "stack": stack,
                    "sites": sites[stack],
                    "perturbation": perturbation,
                    "seed": seed,
                    "output_change": change,
                }
            )
    return rows


def _print_growth(fits: Rows, points: Rows) -> None:
    print(
        "|x_N - x_N*|^2: mean and standard deviation over seeds, by the number of sites of the "
        "stack"
    )
    for point in points:
        print(
            f"{point['model']:<14}{point['stack']:<9}{point['perturbation']:<10}"
            f"{point['sites']:>4} sites  {point['mean']:.3g} +- {point['sd']:.2g}"
        )
    print("least-squares fits to the means; the deepest models weigh most")
    for row in fits:
        laws = []
        for law, x in (("O(N)", "N"), ("O(log N)", "ln N")):
            intercept, slope = row[f"{law} intercept"], row[f"{law} slope"]
            r_squared = row[f"{law} R^2"]
            laws.append(f"{law}: {intercept:.3g} + {slope:.3g} {x}, R^2 {r_squared:.3f}")
        print(f"{row['model']:<14}{row['stack']:<9}{row['perturbation']:<10}" + "   ".join(laws))


def _run_gradients(options: Namespace, args: Namespace, task: Any, sample: Sample) -> Result:
    """Measure the gradient norms of every model, at one step."""
    criterion = subject.build_criterion(args, task)
    rows: Rows = []
    summary = {}
    for name, model in _models(options, args, task, sample):
        loss, found = gradients.gradient_norms(
            model, sample, criterion, options.with_dropout, args.seed
        )
        rows += [{"model": name, **row} for row in found]
        layers = gradients.by_layer(found)
        by_name = {f"{stack}.layers.{layer}": value for (stack, layer), value in layers.items()}
        summary[name] = {"loss": loss, "by layer": by_name}
        print(f"{name}: loss {loss:.3f} nats a token; gradient norm by layer")
        for stack in STACKS:
            norms = [f"{value:.3g}" for (of, _), value in layers.items() if of == stack]
            print(f"   {stack}:", *norms)
    return rows, summary


def _run_updates(options: Namespace, args: Namespace, task: Any, sample: Sample) -> Result:
    """Measure how far the weights of every pair moved, and their gradients at the earlier one.

    Raises:
        AdminError: if no weight matrix of a branch moved.
    """
    criterion = subject.build_criterion(args, task)
    rows: Rows = []
    summary: dict[str, Any] = {}
    for name, (before, after) in options.models.items():
        model, later, numbers = pairs.build_pair(before, after, args, task)
        loss, found = updates.update_norms(
            model, later, sample, criterion, options.with_dropout, args.seed
        )
        if not any(row["update"] for row in found):
            raise AdminError(f"{after}: no weight matrix of a branch differs from {before}")
        rows += [{"model": name, **row} for row in found]
        summary[name] = {"loss": loss, "updates": numbers}
        first, last = ("?" if number is None else number for number in numbers)
        print(f"{name}, updates {first} to {last}: loss {loss:.3f} nats a token at the earlier")
        for stack in STACKS:
            of_stack = [row for row in found if row["stack"] == stack]
            summary[name][stack] = _summarise_updates(of_stack)
            _print_updates(stack, len(of_stack), **summary[name][stack])
    return rows, summary


def _summarise_updates(rows: Rows) -> dict[str, Any]:
    """Return how unbalanced both norms of a stack are, and how much one goes with the other."""
    norms = {what: [row[what] for row in rows] for what in updates.NORMS}
    found: dict[str, Any] = {what: updates.balance(values) for what, values in norms.items()}
    found["rank correlation"] = updates.rank_correlation(*norms.values())
    return found


def _print_updates(stack: str, matrices: int, **found: Any) -> None:
    for what in updates.NORMS:
        balance = found[what]
        ratios = [f"{name} {balance[name]:.3g}" for name in ("largest/smallest", "largest/median")]
        zeros = f" of those that are not 0 ({balance['zeros']} are)" if balance["zeros"] else ""
        print(f"   {stack}, {what + ':':<9} {', '.join(ratios)}{zeros}")
    correlation = found["rank correlation"]
    print(f"   {stack}, rank correlation of the two over {matrices} matrices: {correlation:.2f}")


def _run_stability(options: Namespace, args: Namespace, task: Any, sample: Sample) -> Result:
    """Examine one model, and say what stands out.

    Raises:
        AdminError: if there are several.
    """
    if options.models and len(options.models) > 1:
        raise AdminError("--models: stability examines one model at a time")
    word = next(iter(options.models.values())) if options.models else None
    ((name, model),) = _models(options, args, task, sample)

    # built when it is asked for: a model that is not finite is compared with nothing
    def build_admin() -> Any:
        return subject.build_twin(word, "admin", args, task, sample)

    criterion = subject.build_criterion(args, task)
    report = stability.examine(
        model, name, build_admin, sample, criterion, options.with_dropout, args.seed
    )
    print(format_report(report))
    # joined by site: a model that is not finite has magnitudes, and no gradients
    norms = {row["site"]: row for row in report.gradients}
    rows = [{**row, **norms.get(row["site"], {})} for row in report.largest]
    summary = {
        "facts": report.facts,
        "findings": [finding._asdict() for finding in report.findings],
        "output change": report.changes,
        "beta": report.beta,
    }
    return rows, summary


def _models(
    options: Namespace, args: Namespace, task: Any, sample: Sample
) -> Iterator[tuple[str, Any]]:
    """Yield (label, model) of every word of ``--models``; without it, of the flags as they are."""
    models = options.models or {method_word(method_of(args)): None}
    for name, word in models.items():
        yield name, subject.build_model(word, args, task, sample)


KINDS: dict[str, Callable[[Namespace, Namespace, Any, Sample], Result]] = {
    "dependency": _run_dependency,
    "output-change": _run_output_change,
    "gradients": _run_gradients,
    "updates": _run_updates,
    "stability": _run_stability,
}
