"""The combinations of flags that are refused, with every reason at once, and the way out of each.

Which rules a method has is in its record (``init_types.Method.refuses``); what they look at, and
what they say, is here. The flags are fairseq's Namespace, complete (``options.complete``).
"""

from __future__ import annotations

import logging
import os
from argparse import Namespace
from collections.abc import Callable
from typing import Any

from . import options
from .errors import raise_all
from .init_types import METHODS, Method, find_method, init_type_words, measures, method_of

logger = logging.getLogger(__name__)

# activations with a(x) - a(-x) = x
_MIRRORED = ("relu", "gelu", "gelu_fast", "gelu_accurate")
_STAGES = "use adaptive-profiling, then adaptive"


def check(args: Namespace) -> None:
    """Refuse flags that no model can be built from.

    Raises:
        AdminError: with every reason at once.
    """
    if str(args.init_type) not in init_type_words():
        choices = ", ".join(init_type_words())
        # alone: what else is wrong depends on the method
        raise_all("unknown init type:", [f"--init-type {args.init_type}: choose from {choices}"])
    method = method_of(args)
    _warn_of_unused(args, method)
    raise_all("these flags cannot work:", _contradictions(args))
    raise_all(f"--init-type {args.init_type} cannot work with:", _reasons_against(args, method))


def _warn_of_unused(args: Namespace, method: Method) -> None:
    """Say which of the plugin's flags this method does not read."""
    defaults = options.defaults()
    for other in METHODS:
        for name in other.reads:
            if name not in method.reads and getattr(args, name) != defaults[name]:
                logger.warning("%s does nothing with --init-type %s", _flag(name), args.init_type)


def _contradictions(args: Namespace) -> list[str]:
    """Return what is wrong with flags whatever the method."""
    reasons: list[str] = []
    if args.trace_interval < 0:
        reasons.append(
            f"--trace-interval {args.trace_interval}: 0 for never, or a number of updates"
        )
    asked, method = options.omega_shape(args), find_method(args.init_type)
    meant = method.flags.get("omega_shape", asked)
    if asked is not None and asked != meant:
        reasons.append(
            f"--omega-shape {asked}: --init-type {args.init_type} is --omega-shape {meant}; leave "
            "one of the two out"
        )
    if args.trace_interval and _has_flat_shards(args):
        reasons.append(
            "--trace-interval with --ddp-backend fully_sharded: "
            "its flat shards have no sites to look at"
        )
    # a checkpoint brings the embeddings, and the files may be gone by then
    if not options.checkpoint_to_restore(args):
        for name in options.EMBED_PATHS:
            path = _given(args, name)
            if path and not os.path.isfile(path):
                reasons.append(f"{_flag(name)} {path}: no such file")
    return reasons


def _reasons_against(args: Namespace, method: Method) -> list[str]:
    """Return what a method cannot be combined with, of what the flags ask for."""
    reasons: list[str] = []
    for rule in method.refuses:
        reasons += REASONS[rule](args)
    # post-ln says in so many words what it is; default takes these flags, as in fairseq
    if str(args.init_type) in find_method("default").aliases:
        reasons += _normalize_before(args)
    if reasons and measures(args):
        # these alone are for the training to refuse; but whoever is refused is told all at once
        reasons += _against_measuring(args)
    return reasons


def check_training(args: Namespace) -> None:
    """Refuse what contradicts a training with these flags, beyond what :func:`check` refuses.

    Raises:
        AdminError: with every reason at once.
    """
    reasons = _against_measuring(args) if measures(args) else []
    raise_all(f"--init-type {args.init_type} cannot work with:", reasons)


def _base_layers(args: Namespace) -> list[str]:
    """fairseq's BASE layers, which have no residual site."""
    if _given(args, "base_layers"):
        return ["--base-layers: these layers have no residual site; leave it out"]
    return []


def _flat_shards(args: Namespace) -> list[str]:
    """Fully sharded training, where a site has no parameter of its own."""
    if _has_flat_shards(args):
        return [
            "--ddp-backend fully_sharded: its flat shards have no scale to fill or to share; "
            "use legacy_ddp or pytorch_ddp"
        ]
    return []


def _normalize_before(args: Namespace) -> list[str]:
    """Pre-LN, for methods that are Post-LN."""
    reasons: list[str] = []
    for stack in ("encoder", "decoder"):
        if _given(args, f"{stack}_normalize_before"):
            reasons.append(
                f"--{stack}-normalize-before: leave it out, this is not Pre-LN (Pre-LN is "
                "--init-type pre-ln; architectures that end in _t2t set these flags)"
            )
    return reasons


def _first_omega(args: Namespace) -> list[str]:
    """A first omega of 1, where all omegas of a stack are one number."""
    if args.freeze_first_omega:
        return [
            "--freeze-first-omega: with --omega-shape flat the first omega of a stack is that of "
            "all its sites, and not 1; leave one of the two out"
        ]
    return []


def _empty_stacks(args: Namespace) -> list[str]:
    """A stack without layers, for scales that are computed from both depths."""
    reasons: list[str] = []
    for name in ("encoder_layers", "decoder_layers"):
        number = getattr(args, name)
        if number < 1:
            reasons.append(f"{_flag(name)} {number}: its scales depend on the depth of both stacks")
    return reasons


def _unmirrored_branches(args: Namespace) -> list[str]:
    """Feed-forward branches that cannot start as a linear map."""
    reasons: list[str] = []
    if args.activation_fn not in _MIRRORED:
        reasons.append(f"--activation-fn {args.activation_fn}: use {', '.join(_MIRRORED)}")
    for name in ("encoder_ffn_embed_dim", "decoder_ffn_embed_dim"):
        size = getattr(args, name)
        if size % 2:
            reasons.append(f"{_flag(name)} {size}: it must be even, to be mirrored")
    return reasons


REASONS: dict[str, Callable[[Namespace], list[str]]] = {
    "base_layers": _base_layers,
    "flat_shards": _flat_shards,
    "first_omega": _first_omega,
    "normalize_before": _normalize_before,
    "empty_stacks": _empty_stacks,
    "unmirrored_branches": _unmirrored_branches,
}


def _against_measuring(args: Namespace) -> list[str]:
    """Return what keeps omegas from being measured on the first training batch."""
    reasons: list[str] = []
    for name in ("encoder_layerdrop", "decoder_layerdrop"):
        if _given(args, name):
            reasons.append(
                f"{_flag(name)}: a dropped layer cannot be measured; "
                "profile without it, train with it"
            )
    if options.only_profiles(args):
        found = options.checkpoint_to_restore(args) or next(iter(options.checkpoints_in(args)), "")
        if found:
            reasons.append(
                f"{found}: a profile is of fresh weights, and belongs to the checkpoints beside "
                "it; use an empty --save-dir, and no --restore-file or --finetune-from-model"
            )
        # nothing is trained: what follows is of trainings alone
        return reasons
    too_late = {
        "store_ema": "the average would start before omega is set",
        "quant_noise_pq": "the noise changes weights while measuring",
        "use_bmuf": "it keeps a copy of the weights from before omega is set",
    }
    for name, reason in too_late.items():
        if _given(args, name):
            reasons.append(f"{_flag(name)}: {reason}; {_STAGES}")
    return reasons


def _has_flat_shards(args: Namespace) -> bool:
    """Whether training shards all weights (``--ddp-backend fully_sharded``)."""
    return _given(args, "ddp_backend") == "fully_sharded"


def _given(args: Namespace, name: str) -> Any:
    """Return a flag of fairseq's, None where a model is built without it."""
    return getattr(args, name, None)


def _flag(name: str) -> str:
    """Return the flag of an attribute: ``--encoder-layers`` of ``encoder_layers``."""
    return "--" + name.replace("_", "-")
