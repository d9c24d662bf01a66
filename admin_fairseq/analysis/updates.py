"""How far weights moved between two checkpoints of a training, against their gradients.

Liu et al. (EMNLP 2020, section 3) compare, for the weights W of a network, the norm of the gradient
with |W_{i+1} - W_i|, W_i being the checkpoint after i epochs: gradients of Post-LN's decoder are
unbalanced across layers, yet Adam's updates are not, so that vanishing gradients are not what makes
it fail. Norms are relative, as theirs are: divided by the largest of the same network, encoder and
decoder together, so that the stacks compare as well.

W is each weight matrix of each site's branch; its gradient is that of one batch, at the earlier
checkpoint. What an optimizer that scales every element does alike, Adam's first step for one, still
gives larger norms to larger matrices. A checkpoint in half precision holds rounded weights, and
their difference both roundings.
"""

from __future__ import annotations

import bisect
import math
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from . import gradients, probe
from .gradients import Row

NORMS = ("gradient", "update")


def update_norms(
    model: Any,
    later: Any,
    sample: Mapping[str, Any],
    criterion: Any,
    dropout: bool = False,
    seed: int = 1,
) -> tuple[float, list[Row]]:
    """Measure the gradient of every weight matrix, and how far it is to a later model's.

    Args:
        model: in float64; left as it was, without gradients.
        later: of the same sites and shapes, in any precision and on any device.
        sample: a fairseq batch.
        criterion: fairseq's.
        dropout: run in training mode, with the masks of ``seed``.
        seed: of the masks.

    Returns:
        (loss in nats a token, rows). A row has ``stack``, ``layer`` (from 0), ``site``, ``matrix``
        (the weight's name), the norms ``gradient``, ``update`` (of W_later - W) and ``weight`` (of
        W), and ``relative_gradient`` and ``relative_update``, in units of the model's largest; 0
        where all are 0.

    Raises:
        AdminError: if the loss or a gradient is not finite, or the criterion does not fit the
            model.
    """
    # by identity: tensors are compared element by element
    names = {id(weight): name for name, weight in model.named_parameters()}
    moved_to = dict(later.named_parameters())
    rows: list[Row] = []
    with gradients.backward(model, sample, criterion, dropout, seed) as loss:
        for of_stack in probe.sites_of(model).values():
            for site in of_stack:
                for weight in site.matrices:
                    name = names[id(weight)]
                    before = weight.detach()
                    rows.append(
                        {
                            "stack": site.stack,
                            "layer": site.layer,
                            "site": site.name,
                            "matrix": name,
                            "gradient": gradients.norm([weight.grad]),
                            "update": gradients.norm([moved_to[name].detach().to(before) - before]),
                            "weight": gradients.norm([before]),
                        }
                    )
    gradients.check_finite([loss, *(row["gradient"] for row in rows)])
    for what in NORMS:
        largest = max(row[what] for row in rows)
        for row in rows:
            row[f"relative_{what}"] = row[what] / largest if largest else 0.0
    return loss, rows


def balance(norms: Sequence[float]) -> dict[str, float]:
    """Return how unbalanced norms are: the largest over the smallest, and over the median.

    Both leave out those that are 0, of frozen weights and of ReZero's first branches, and are NaN
    where all are.
    """
    # sorted by size
    moved = sorted(norm for norm in norms if norm > 0)
    if not moved:
        return {"largest/smallest": math.nan, "largest/median": math.nan, "zeros": len(norms)}
    return {
        "largest/smallest": moved[-1] / moved[0],
        "largest/median": moved[-1] / statistics.median(moved),
        "zeros": len(norms) - len(moved),
    }


def rank_correlation(x: Sequence[float], y: Sequence[float]) -> float:
    """Return Spearman's coefficient; NaN where one side's values are all equal."""
    if len(set(x)) < 2 or len(set(y)) < 2:
        return math.nan
    return statistics.correlation(_ranks(x), _ranks(y))


def _ranks(values: Sequence[float]) -> list[float]:
    """Return each value's place among all, in order of size; equal ones share their mean place."""
    ordered = sorted(values)
    ranks = []
    for value in values:
        ranks.append((bisect.bisect_left(ordered, value) + bisect.bisect_right(ordered, value)) / 2)
    return ranks
