"""Checkpoints of the authors' code (Transformer-Clinic) -> this plugin's, omegas included.

Their code is a fork that calls itself fairseq 0.8. What differs are names, and how attention
weights are laid out:

    attention_ratio_change, fc_ratio_change (encoder)    self_attn_residual.omega,
                                                         ffn_residual.omega
    self_ratio_change, encoder_ratio_change,             self_attn_residual.omega,
    fc_ratio_change (decoder)                            encoder_attn_residual.omega,
                                                         ffn_residual.omega
    *attn.in_proj_{weight,bias}                          {q,k,v}_proj.{weight,bias}, which it stacks
    *attn.{q,k,v}_proj_weight                            {q,k,v}_proj.weight
    decoder.embed_out                                    decoder.output_projection.weight

Their deepnet does not store alpha; it follows from the depths. Nothing that a file holds is ever
run: see :data:`METERS`.
"""

import contextlib
import logging
from argparse import Namespace
from dataclasses import fields
from typing import Any

import torch
from fairseq.models import ARCH_CONFIG_REGISTRY, ARCH_MODEL_NAME_REGISTRY
from fairseq.models.transformer.transformer_config import DecoderConfig, TransformerConfig

from .. import options
from ..errors import AdminError, raise_all
from ..init_types import find_method
from ..sites import CROSS_ATTENTION, FEED_FORWARD, SELF_ATTENTION, STACKS, stack_sites
from ..weights import Weights
from .assemble import assemble, cfg_of
from .output import check_output
from .read import State, load_checkpoint, save_checkpoint, updates_of
from .rebuild import rebuild_and_rename

logger = logging.getLogger(__name__)

# their init types, which are words of ours as well; no release of their code can run their rezero*
_INIT_TYPES = ("default", "adaptive-profiling", "adaptive", "deepnet", "looklinear")
# their parameter of a layer -> our site, by stack
_OMEGAS = {
    "encoder": {"attention_ratio_change": SELF_ATTENTION, "fc_ratio_change": FEED_FORWARD},
    "decoder": {
        "self_ratio_change": SELF_ATTENTION,
        "encoder_ratio_change": CROSS_ATTENTION,
        "fc_ratio_change": FEED_FORWARD,
    },
}
_SIZES = (
    *("encoder_layers", "encoder_embed_dim", "encoder_ffn_embed_dim", "encoder_attention_heads"),
    *("decoder_layers", "decoder_embed_dim", "decoder_ffn_embed_dim", "decoder_attention_heads"),
)
_NEEDED = (*_SIZES, "share_all_embeddings", "share_decoder_input_output_embed")
_TASK_FLAGS = ("data", "source_lang", "target_lang", "left_pad_source", "left_pad_target", "seed")
_LEFT_PAD = {"left_pad_source": True, "left_pad_target": False}  # fairseq's default values


class Meter:
    """Stands for fairseq 0.8's meters, which its checkpoints hold: a record, without their code."""


METERS = [f"fairseq.meters.{name}" for name in ("AverageMeter", "TimeMeter", "StopwatchMeter")]


def import_checkpoint(path: str, output: str, force: bool = False) -> None:
    """Write the authors' checkpoint ``path`` as ours: ``output``, for generation and fine-tuning.

    Raises:
        AdminError: if it holds other classes than the listed ones, lacks something, is of an init
            type that cannot be imported, or cannot be written; it lists all that is wrong. Nothing
            is written then.
    """
    check_output(output, [path], force)
    state = read(path)
    args = _our_args(state.get("args"), path)
    _, weights = rebuild_and_rename(args, _our_weights(state["model"], args), path)
    updates = updates_of(state) or 0
    kept = assemble(cfg_of(args), weights, [{"num_updates": updates}])
    save_checkpoint(kept, output)
    logger.info(
        "%d-%d, --init-type %s, %d updates: written to %s (without the optimizer's state)",
        args.encoder_layers, args.decoder_layers, args.init_type, updates, output,
    )  # fmt: skip


def read(path: str) -> State:
    """Load the authors' checkpoint.

    Of classes it may hold a Namespace and :data:`METERS`, and nothing is run.

    Raises:
        AdminError: if it cannot be read, or is not theirs.
    """
    allowed: contextlib.AbstractContextManager = contextlib.nullcontext()
    if hasattr(torch.serialization, "safe_globals"):
        allowed = torch.serialization.safe_globals([(Meter, name) for name in METERS])
    with allowed:
        state = load_checkpoint(path)
    # a section that their fairseq 0.8 does not know
    if state.get("cfg"):
        raise AdminError(
            f"{path}: written by fairseq 0.10 or later, and so not by the authors' code; nothing "
            "to import"
        )
    return state


def _our_args(theirs: Any, path: str) -> Namespace:
    """Return the flags of our model, complete.

    Args:
        theirs: what the checkpoint holds as ``args``.
        path: of the file, for messages.

    Raises:
        AdminError: listing every flag that is missing or has no counterpart.
    """
    if not isinstance(theirs, Namespace):
        raise AdminError(f"{path}: it has no 'args', which the authors' checkpoints have")
    given = vars(theirs)
    problems = _problems_of_sizes(given) + _problems_of_init_type(given) + _problems_of_kind(given)
    raise_all(f"{path} cannot be imported:", problems)

    names = [*_model_flags(), *_TASK_FLAGS]
    args = Namespace(**{name: given[name] for name in names if name in given})
    args.task, args.arch, args._name = "translation", "admin_transformer", "admin_transformer"
    args.init_type = str(find_method(given["init_type"]).flags["init_type"])
    if find_method(args.init_type).needs_profile:
        args.admin_omega = {}  # they are among the weights: no profile is looked for
    for name, default in _LEFT_PAD.items():  # they stored text
        setattr(args, name, str(getattr(args, name, default)) == "True")
    options.complete(args)
    ARCH_CONFIG_REGISTRY[args.arch](args)
    return args


def _problems_of_sizes(given: dict[str, Any]) -> list[str]:
    problems = [f"its args have no {name}" for name in _NEEDED if name not in given]
    for name in _SIZES:
        if not isinstance(given.get(name, 0), int):
            problems.append(f"its {name} is {given[name]!r}, which is not a number")
    return problems


def _problems_of_init_type(given: dict[str, Any]) -> list[str]:
    if given.get("init_type") is None:
        return ["its args have no init_type: it is not a checkpoint of the authors' code"]
    word = str(given["init_type"])
    if word in _INIT_TYPES:
        return []
    if word.startswith("rezero"):
        return [f"init_type {word}: the layers of their ReZero have no counterpart here"]
    return [f"init_type {word}: unknown; known are {', '.join(_INIT_TYPES)}"]


def _problems_of_kind(given: dict[str, Any]) -> list[str]:
    problems = []
    arch = given.get("arch", "transformer")
    if "admin_profile" in given:
        problems.append("it is of this plugin already; nothing to import")
    elif ARCH_MODEL_NAME_REGISTRY.get(arch, "transformer") != "transformer":
        problems.append(f"arch {arch}: only Transformers for translation are imported")
    if given.get("task", "translation") != "translation":
        problems.append(f"task {given['task']}: only translation is imported")
    if given.get("layer_wise_attention"):
        problems.append("layer_wise_attention: today's fairseq does not have it")
    return problems


def _model_flags() -> list[str]:
    """Return the names of fairseq's flags of a Transformer."""
    nested = ("encoder", "decoder", "quant_noise", "_name")
    names = [flag.name for flag in fields(TransformerConfig) if flag.name not in nested]
    for stack in STACKS:
        names += [f"{stack}_{flag.name}" for flag in fields(DecoderConfig) if flag.name != "_name"]
    return names


def _our_weights(theirs: Weights, args: Namespace) -> Weights:
    """Return weights by our names; those that have no counterpart keep theirs.

    Args:
        theirs: the checkpoint's.
        args: the flags of our model: see :func:`_our_args`.
    """
    ours: Weights = {}
    for name, value in theirs.items():
        ours.update(_renamed(name, value))
    if args.share_all_embeddings or args.share_decoder_input_output_embed:
        shared = ours.get("decoder.embed_tokens.weight")
        if shared is not None:
            ours["decoder.output_projection.weight"] = shared
    formula = find_method(args.init_type).closed_form
    if formula is not None:  # DeepNorm's alpha, which they do not store
        for stack in STACKS:
            for site in stack_sites(args, stack):
                ours[f"{site}.alpha"] = torch.tensor(formula(args, stack))
    return ours


def _renamed(name: str, value: torch.Tensor) -> Weights:
    """Return one of their weights as ours: one, three that it stacks, or none."""
    module, _, last = name.rpartition(".")
    omegas = _OMEGAS.get(name.split(".")[0], {})
    if last == "_float_tensor":
        return {}
    if last in omegas:
        return {f"{module}.{omegas[last].name}.omega": value}
    if last in ("in_proj_weight", "in_proj_bias"):
        kind = last.rpartition("_")[2]
        rows = value.chunk(3)
        return {f"{module}.{x}_proj.{kind}": part.clone() for x, part in zip("qkv", rows)}
    if last in ("q_proj_weight", "k_proj_weight", "v_proj_weight"):
        return {f"{module}.{last[:6]}.weight": value}
    if name == "decoder.embed_out":
        return {"decoder.output_projection.weight": value}
    return {name: value}
