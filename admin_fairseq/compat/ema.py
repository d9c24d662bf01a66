"""``--store-ema``: the average of all weights, each counted once."""

import contextlib
import functools
import logging
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import torch

from .marks import is_mended, mark

logger = logging.getLogger(__name__)


def average_every_weight_once() -> None:
    """Have fairseq's moving average be of the model's weights. It was of others, in two ways.

    - Its steps leave out entries called "version", and a Transformer that finds none in a state
      dict treats it as one of 2018: the average of a Pre-LN model lost its last LayerNorms. The
      model's own versions are put in.
    - A tied weight has several names. Without ``--ema-fp32`` these are one tensor, which every name
      moved: with ``--share-all-embeddings`` the decay of embeddings was the third power of
      ``--ema-decay``.

    And ``--store-ema`` on a checkpoint without an average ended in a KeyError; the average starts
    from its weights.
    """
    from fairseq.models.ema.ema import EMA
    from fairseq.trainer import Trainer

    if is_mended(EMA.restore):
        return
    restore, step, load = EMA.restore, EMA._step_internal, Trainer.load_checkpoint

    @functools.wraps(restore)
    def restore_with_versions(
        self: Any, state_dict: dict[str, torch.Tensor], *args: Any, **kwargs: Any
    ) -> None:
        own = self.model.state_dict()
        lost = [key for key in own if key not in state_dict and _is_final_norm(key)]
        if lost:
            logger.warning(
                "the stored average has no %s: they start from the model's", ", ".join(lost)
            )
        versions = {key: value.clone() for key, value in own.items() if key.endswith(".version")}
        restore(self, {**state_dict, **versions}, *args, **kwargs)

    @functools.wraps(step)
    def step_once(self: Any, new_model: torch.nn.Module, *args: Any, **kwargs: Any) -> None:
        moved = self.fp32_params if self.config.ema_fp32 else self.model.state_dict()
        weights = _one_name_each(new_model.state_dict(), moved)
        step(self, SimpleNamespace(state_dict=lambda: weights), *args, **kwargs)

    @functools.wraps(load)
    def load_checkpoint(self: Any, *args: Any, **kwargs: Any) -> Any:
        with _averages_given() if self.cfg.ema.store_ema else contextlib.nullcontext():
            return load(self, *args, **kwargs)

    EMA.restore = mark(restore_with_versions)
    EMA._step_internal = mark(step_once)
    Trainer.load_checkpoint = mark(load_checkpoint, "ema")


def _is_final_norm(key: str) -> bool:
    return key.split(".", 1)[-1].startswith("layer_norm.")


def _one_name_each(
    state_dict: dict[str, torch.Tensor], moved: dict[str, torch.Tensor]
) -> dict[str, torch.Tensor]:
    """Return a state dict without the entries whose tensor in ``moved`` has an earlier name too."""
    # by place in memory: names of a tied weight share it, equal weights do not
    seen: set[Any] = set()
    kept = {}
    for key, value in state_dict.items():
        target = moved.get(key)
        place: Any = key
        if torch.is_tensor(target):
            place = (target.data_ptr(), target.shape, target.stride())
        if place not in seen or (torch.is_tensor(target) and not target.numel()):
            kept[key] = value
        seen.add(place)
    return kept


@contextlib.contextmanager
def _averages_given() -> Iterator[None]:
    """Have checkpoints that are read hold an average: of their own weights where there is none."""
    from fairseq import checkpoint_utils

    read = checkpoint_utils.load_checkpoint_to_cpu

    @functools.wraps(read)
    def load_checkpoint_to_cpu(*args: Any, **kwargs: Any) -> dict[str, Any]:
        state = read(*args, **kwargs)
        if "ema" not in state["extra_state"]:
            logger.warning("the checkpoint has no average: --store-ema starts from its weights")
            average = {key: value.clone() for key, value in state["model"].items()}
            state["extra_state"]["ema"] = average
        return state

    checkpoint_utils.load_checkpoint_to_cpu = load_checkpoint_to_cpu
    try:
        yield
    finally:
        checkpoint_utils.load_checkpoint_to_cpu = read
