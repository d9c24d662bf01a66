"""Two checkpoints of one training, the earlier first -> their models."""

from __future__ import annotations

from argparse import Namespace
from typing import Any

from ..checkpoints import load_checkpoint, restore_state, updates_of
from ..errors import AdminError, raise_all
from ..weights import differences
from .subject import to_look_at


def build_pair(
    before: str, after: str, args: Namespace, task: Any
) -> tuple[Any, Any, list[int | None]]:
    """Build the models of two checkpoints.

    Args:
        before: path of the earlier one.
        after: path of the later one.
        args: parsed flags of fairseq-train.
        task: fairseq's, over the data.

    Returns:
        The earlier model, as ``subject.build_model`` does; the later one, as it was stored, on the
        CPU; and the numbers of updates that they were written after, None where one does not say.

    Raises:
        AdminError: if one cannot be read, is not finite or does not fit the data, or if they are of
            different models, or not in this order.
    """
    models, updates = [], []
    for path in (before, after):
        state = load_checkpoint(path)
        models.append(restore_state(state, path, task))
        updates.append(updates_of(state))
    earlier, later = models
    raise_all(
        f"{after} is not the same model as {before}:",
        differences(earlier.state_dict(), later.state_dict()),
    )
    first, second = updates
    if first is not None and second is not None and second <= first:
        way_out = "name the earlier one first" if second < first else "name a later one"
        raise AdminError(
            f"{after}: it is of update {second}, and {before} is of update {first}; {way_out}"
        )
    return to_look_at(earlier, args), later, updates
