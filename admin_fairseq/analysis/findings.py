"""What the figures of the stability probe mean, and what to try.

The thresholds are ours. Post-LN trains with 6 layers and fails with 12 or 18 in the papers and on
our cards, so they were put between what it shows there (quick-start corpus, C 64, two seeds, with
and without --xavier-ffn; 6, 12, 18 layers): the decoder's early half 4 to 14%, 0 to 1%, 0%; its
gradient spread 1.7 to 3, 6 to 11, 14 to 84. The encoder's output change, 1.6 to 2.6, 1.6 to 4.1,
2.4 to 3.2 times Admin's, tells them apart less well. All of that is of first steps; the report says
so where a trained model may look alike and be well.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import nn

from ..sites import named_omegas
from . import dependency, gradients, probe
from .subject import non_finite_weights

FP16_MAX = 65504
AMPLIFIES = 3  # output change, in units of Admin's
STANDS_STILL = 1e-3  # the same
DOMINATES = 0.5  # share of all beta^2 of the output
FORGETS = 0.02  # the same, of the embedding and the first half of the branches
SPREADS = 10  # largest over smallest gradient norm of a layer

LOWER_RATE = "a lower --lr and longer --warmup-updates"


class Finding(NamedTuple):
    """Something that stands out: what, the figures that show it, what it means, what to try."""

    pattern: str
    figures: str
    meaning: str
    advice: str


@dataclass
class Report:
    """What was measured on one model.

    Attributes:
        other_init: which other init type to advise, in words.
        findings: the gravest first; empty if nothing stands out.
        largest: rows, the largest magnitude of branch and shortcut at every site, NaN if not
            finite.
        beta: ``{stack: rows of beta}``; empty where the model is not finite.
        gradients: rows, the norms at every site; empty where the model is not finite.
        changes: ``{label: {stack: output change}}``, the model's and Admin's.
        facts: measured figures, name -> text.
    """

    other_init: str
    findings: list[Finding] = field(default_factory=list)
    largest: list[dict[str, Any]] = field(default_factory=list)
    beta: dict[str, list[list[float]]] = field(default_factory=dict)
    gradients: list[dict[str, Any]] = field(default_factory=list)
    changes: dict[str, dict[str, float]] = field(default_factory=dict)
    facts: dict[str, str] = field(default_factory=dict)

    def add(self, pattern: str, figures: str, meaning: str, advice: str) -> None:
        """Add a finding."""
        self.findings.append(Finding(pattern, figures, meaning, advice))


def check_numbers(report: Report, model: nn.Module, found: probe.Pass) -> bool:
    """Look for NaN, infinity and what float16 cannot hold.

    Returns:
        Whether all is finite.
    """
    bad = non_finite_weights(model)
    where = probe.first_non_finite(found)
    if bad:
        report.add(
            "weights are not finite",
            f"{len(bad)} of {len(list(model.parameters()))} weights, the first: {bad[0]}; "
            f"first in the forward pass: {where}",
            "an update wrote NaN or infinity into the model; nothing measured on it means anything",
            "examine the last checkpoint from before; train on from there with "
            f"{LOWER_RATE}, or --clip-norm 1",
        )
    elif where:
        report.add(
            "the forward pass is not finite",
            f"weights are finite; the first NaN or infinity is at {where}",
            "activations overflow even in float64, so weights there are far too large",
            f"examine an earlier checkpoint; {report.other_init}; {LOWER_RATE}",
        )
    if bad or where:
        return False
    largest, site = max((max(values), name) for name, values in found.largest.items())
    report.facts["largest activation"] = f"{largest:.4g}, at {site}"
    if largest > FP16_MAX / 8:
        report.add(
            "activations near the end of float16",
            f"{largest:.4g} at {site}; float16 ends at {FP16_MAX}",
            "--fp16 overflows here, and the loss scale falls until fairseq stops",
            f"--bf16 where the hardware has it, else float32; {LOWER_RATE}",
        )
    return True


def check_output_change(report: Report, name: str) -> None:
    """Compare the output change of the model ``name`` with Admin's."""
    for stack, change in report.changes[name].items():
        admin = report.changes["Admin"][stack]
        # NaN is beyond no threshold: without a unit nothing is found
        ratio = change / admin if admin else math.nan
        report.facts[f"{stack}: output change"] = (
            f"{change:.3g}, {ratio:.2f} times Admin's at its first step ({admin:.3g})"
        )
        if ratio > AMPLIFIES:
            report.add(
                f"the {stack} amplifies changes of its weights",
                f"the last output moves {ratio:.1f} times as far as Admin's for the same change of "
                "weights",
                "every update moves the function that is being learned further than the optimizer "
                "reckons with; with depth this is what makes Post-LN diverge (Liu et al., 2020, "
                "section 4)",
                f"{report.other_init}; fewer layers; {LOWER_RATE}",
            )
        elif ratio < STANDS_STILL:
            report.add(
                f"the {stack}'s branches contribute nothing",
                f"the output moves {ratio:.2g} times as far as Admin's when their weights do",
                "branches are multiplied by 0, which is how ReZero starts; later it would mean "
                "dead branches",
                "at the first step: nothing; later: another init type",
            )


def check_dependency(report: Report, rows: Mapping[str, Sequence[dependency.Row]]) -> None:
    """Look for outputs that are made of few branches. ``rows``: those of each stack."""
    for stack, stack_rows in rows.items():
        last = stack_rows[-1]
        share = [value**2 / last.sum_of_squares for value in last.beta]
        # from 1: the embedding is no branch, and may well dominate
        largest = max(range(1, len(share)), key=share.__getitem__)
        site = stack_rows[largest - 1].site.name
        report.facts[f"{stack}: dominant branch"] = (
            f"{site}, {share[largest]:.0%} of all beta^2 of the output"
        )
        report.facts[f"{stack}: embedding"] = f"{share[0]:.1%}"
        # one more than half of the sites: share[0] is the embedding's
        early = sum(share[: len(stack_rows) // 2 + 1])
        report.facts[f"{stack}: embedding and first half of the branches"] = f"{early:.1%}"
        if early < FORGETS:
            report.add(
                f"the {stack} depends on its last branches only",
                f"embedding and first half of the branches make up {early:.1%} of all beta^2 of "
                "the output",
                "each LayerNorm shrinks what was there before, so early layers reach the output "
                "through later ones only; at the first step plain Post-LN does this, the more the "
                "deeper it is. A trained model may have come to it and translate well",
                f"{report.other_init}; Pre-LN (the normalize-before flags); fewer layers",
            )
        if share[largest] > DOMINATES:
            report.add(
                f"one branch dominates the {stack}",
                f"{site} makes up {share[largest]:.0%} of all beta^2 of the output",
                "the output depends on this branch's weights more than on all others together",
                f"look at its weights and their gradients; {report.other_init}",
            )


def check_gradients(report: Report) -> None:
    """Look for gradients that vanish or explode over the layers of a stack."""
    for stack in dict.fromkeys(row["stack"] for row in report.gradients):
        norms = gradients.by_layer(row for row in report.gradients if row["stack"] == stack)
        # frozen layers, and ReZero's at first, have gradients of 0: a spread over them is infinite
        values = [value for value in norms.values() if value > 0]
        if not values:
            continue
        spread = max(values) / min(values)
        first, last = values[0], values[-1]
        report.facts[f"{stack}: gradient spread"] = (
            f"{spread:.1f} between layers (first layer {first:.3g}, last layer {last:.3g})"
        )
        if spread > SPREADS:
            grows = "vanish towards the input" if first < last else "grow towards the input"
            report.add(
                f"gradients {grows} of the {stack}",
                f"the largest layer's norm is {spread:.0f} times the smallest's",
                "with one learning rate for all, some layers hardly learn while others jump; Adam "
                "and RAdam hide much of it, plain SGD none",
                f"Adam or RAdam if it is not yet; {report.other_init}; Pre-LN (the "
                "normalize-before flags)",
            )


def check_omegas(report: Report, model: nn.Module) -> None:
    """Look for omegas that training moved through zero."""
    omegas = named_omegas(model)
    if not omegas:
        return
    elements = torch.cat([omega.detach() for omega in omegas.values()])
    smallest, largest = float(elements.min()), float(elements.max())
    report.facts["omega"] = f"{smallest:.3g} to {largest:.3g}, mean {float(elements.mean()):.3g}"
    turned = [name for name, omega in omegas.items() if bool((omega < 0).any())]
    if turned:
        report.add(
            "omegas changed sign",
            f"{len(turned)} of {len(omegas)} sites have negative elements, the first: {turned[0]}",
            "training moved shortcuts through zero: some channels pass nothing on, or the reverse",
            f"harmless in a model that trains well; else {LOWER_RATE}",
        )


def format_report(report: Report) -> str:
    """Return the report as a person reads it."""
    lines = [f"{key}: {value}" for key, value in report.facts.items()]
    lines.append("")
    for number, finding in enumerate(report.findings, 1):
        lines += [
            f"{number}. {finding.pattern}",
            f"   seen: {finding.figures}",
            f"   means: {finding.meaning}",
            f"   try: {finding.advice}",
        ]
    if not report.findings:
        lines.append(
            "Nothing stands out in what this looks at: output change, dependency, gradients and "
            "magnitudes of one batch. Look at the learning rate, which is not read here, at the "
            "data (lengths, noise) and the loss curve."
        )
    return "\n".join(lines)
