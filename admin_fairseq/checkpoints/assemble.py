"""Putting a checkpoint together that fairseq loads, from flags and weights."""

import logging
import warnings
from argparse import Namespace
from typing import Any, Optional, cast

from fairseq.dataclass.utils import convert_namespace_to_omegaconf
from omegaconf import OmegaConf

from ..errors import AdminError
from ..weights import Weights

# without these fairseq takes a file for an early release's, and looks for its keys
_NOTHING_HAPPENED = {
    "criterion_name": None,
    "optimizer_name": None,
    "lr_scheduler_state": {"best": None},
    "num_updates": 0,
}


def cfg_of(args: Namespace) -> dict[str, Any]:
    """Return flags in the layout in which today's fairseq stores them, section by section.

    Raises:
        AdminError: if fairseq does not understand them.
    """
    logging.getLogger("hydra").setLevel(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # hydra's, of how fairseq calls it
            cfg = convert_namespace_to_omegaconf(args)
    except Exception as error:  # hydra raises its own for flags that are unknown or of another type
        raise AdminError(f"fairseq cannot read these flags: {error}") from None
    return cast(dict[str, Any], OmegaConf.to_container(cfg, resolve=True, enum_to_str=True))


def assemble(
    cfg: dict[str, Any],
    weights: Weights,
    history: Optional[list[dict[str, Any]]] = None,
    task_state: Optional[dict[str, Any]] = None,
    extra_state: Optional[dict[str, Any]] = None,
) -> dict[str, Any]:
    """Return a checkpoint that fairseq loads, without an optimizer's state.

    ``history``, ``task_state`` and ``extra_state`` may be those of the checkpoint it was made from.
    """
    entries = []
    for entry in history or [{}]:
        entries.append({**_NOTHING_HAPPENED, **entry})
    return {
        # fairseq reads args before cfg; its own checkpoints of today have none
        "args": None,
        "cfg": cfg,
        "model": weights,
        "criterion": None,
        "optimizer_history": entries,
        "task_state": task_state or {},
        # a training that goes on from it would else begin at epoch 0
        "extra_state": {"train_iterator": {"epoch": 1}, **(extra_state or {})},
    }
