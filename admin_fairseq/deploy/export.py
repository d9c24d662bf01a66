"""A trained checkpoint -> a stock Transformer's: folded, compared, and only then written.

The result needs no plugin: fairseq's own commands, TorchScript and CTranslate2
(``ctranslate2_export``) read it.
"""

import copy
import logging
from argparse import Namespace
from typing import Any

from ..checkpoints import (
    State,
    assemble,
    cfg_of,
    check_output,
    load_checkpoint,
    rebuild_and_rename,
    save_checkpoint,
    stored_args,
)
from ..errors import AdminError
from .compare import compare
from .fold import Folded, fold_state
from .stock import STOCK_NAMES

logger = logging.getLogger(__name__)
_ROUTES = {
    "a": "a, into the LayerNorm (or the linear map) of the embedding",
    "b": "b, its first omega is 1: free",
    "c": "c, into an embedding and a table of positions of its own",
}


def fold_checkpoint(path: str, output: str, safe: bool = False, force: bool = False) -> Folded:
    """Fold the checkpoint ``path`` into a stock ``transformer``'s, ``output``.

    Args:
        path: of the checkpoint to read.
        output: of the one to write.
        safe: write plain dictionaries, which stock fairseq loads under torch's ``weights_only``;
            else the flags are a Namespace, as fairseq writes them.
        force: replace an ``output`` that exists.

    Raises:
        AdminError: if the checkpoint cannot be read or folded, if the folded model's outputs are
            others, or if ``output`` cannot be written. Nothing is written then.
    """
    check_output(output, [path], force)
    state, args = load_foldable(path)
    folded = fold_and_compare(state, args, path)
    save_checkpoint(stock_state(state, folded, safe), output)
    logger.info("stock transformer written to %s", output)
    return folded


def load_foldable(path: str) -> tuple[State, Namespace]:
    """Return (state, flags) of a checkpoint.

    Raises:
        AdminError: if it cannot be read, or is a part of one.
    """
    state = load_checkpoint(path)
    if "fsdp_metadata" in state:
        raise AdminError(
            f"{path}: one shard of --use-sharded-state; continue the training without it, for a "
            "whole checkpoint"
        )
    return state, stored_args(state, path)


def fold_and_compare(state: State, args: Namespace, path: str) -> Folded:
    """Fold a checkpoint, once the folded model is known to put out the same.

    Args:
        state: the checkpoint.
        args: its flags, complete; see :func:`load_foldable`.
        path: of the file, for messages.

    Raises:
        AdminError: if it does not, or the checkpoint cannot be folded.
    """
    # these weights, not the model's, have the dtypes of the file, in which the fold is stored
    model, weights = rebuild_and_rename(args, state["model"], path)
    try:
        folded = fold_state(weights, args)
    except AdminError as error:
        raise AdminError(f"{path}: {error}") from None
    _log(folded)
    compare(model, weights, args, folded, path)
    return folded


def stock_state(state: State, folded: Folded, safe: bool = False) -> State:
    """Return what fairseq stores for the folded model: flags, weights and history.

    The optimizer's state and the EMA are left out: they are of other weights.

    Args:
        state: the checkpoint that was folded.
        folded: made of it.
        safe: with dictionaries for its Namespaces.
    """
    # a copy: it is changed below, and the state is the caller's
    cfg = copy.deepcopy(state.get("cfg")) or cfg_of(folded.args)
    # a Namespace, as fairseq stores the flags of models of the legacy kind
    cfg["model"] = folded.args
    # whoever reads the result need not have the plugin
    for section in cfg.values():
        if isinstance(section, dict):
            if "user_dir" in section:
                section["user_dir"] = None
            if section.get("_name") in STOCK_NAMES:
                section["_name"] = STOCK_NAMES[section["_name"]]
    extra = dict(state.get("extra_state") or {})
    for name in list(extra):
        if name.startswith("ema"):
            del extra[name]
    history, task_state = state.get("optimizer_history"), state.get("task_state")
    stock = assemble(cfg, folded.weights, history, task_state, extra)
    return _without_namespaces(stock) if safe else stock


def _log(folded: Folded) -> None:
    """Log which route each stack took, and what it costs."""
    for stack, route in folded.routes.items():
        logger.info("%s: route %s", stack, _ROUTES[route])
    logger.info("parameters beside those of omega: %+d", folded.new_parameters)
    if folded.zeros:
        logger.warning(
            "%d omegas of exactly 0 were replaced by 1e-8: %s",
            sum(folded.zeros.values()),
            ", ".join(folded.zeros),
        )
    if any(getattr(folded.args, f"{stack}_layerdrop", 0) for stack in folded.routes):
        logger.warning(
            "trained with layerdrop: layers of the folded model scale each other's inputs, and "
            "cannot be left out later"
        )


def _without_namespaces(value: Any) -> Any:
    if isinstance(value, Namespace):
        value = vars(value)
    if isinstance(value, dict):
        return {key: _without_namespaces(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_without_namespaces(item) for item in value]
    return value
