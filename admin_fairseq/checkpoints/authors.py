"""Checkpoints of the authors' code (Transformer-Clinic) -> checkpoints of this plugin, omegas included.

Their code is a fork that calls itself fairseq 0.8. What differs are names, and how attention weights are laid
out:

    attention_ratio_change, fc_ratio_change (encoder)    self_attn_residual.omega, ffn_residual.omega
    self_ratio_change, encoder_ratio_change, fc_ratio_change (decoder)
                              self_attn_residual.omega, encoder_attn_residual.omega, ffn_residual.omega
    *attn.in_proj_{weight,bias}                          {q,k,v}_proj.{weight,bias}, which it stacks
    *attn.{q,k,v}_proj_weight                            {q,k,v}_proj.weight
    decoder.embed_out                                    decoder.output_projection.weight

Their deepnet does not store alpha; it follows from the depths. Nothing that a file holds is ever run: see
:data:`METERS`.
"""

import contextlib
import logging
from argparse import Namespace
from dataclasses import fields

import torch
from fairseq.models import ARCH_CONFIG_REGISTRY, ARCH_MODEL_NAME_REGISTRY
from fairseq.models.transformer.transformer_config import DecoderConfig, TransformerConfig

from .. import options
from ..deploy.export import check_output, made_up_task
from ..deploy.fold import stack_sites
from ..errors import AdminError, raise_all
from ..init_types import closed_form, init_type_of, is_adaptive
from . import assemble, cfg_of, current_names, load_checkpoint, rebuild, save_checkpoint

logger = logging.getLogger(__name__)
# theirs -> ours; their rezero* has layers that no release of their code can run
INIT_TYPES = {
    "default": "default",
    "adaptive-profiling": "adaptive",
    "adaptive": "adaptive",
    "deepnet": "deepnet",
    "looklinear": "looklinear",
}
OMEGAS = {
    "encoder": {"attention_ratio_change": "self_attn_residual", "fc_ratio_change": "ffn_residual"},
    "decoder": {
        "self_ratio_change": "self_attn_residual",
        "encoder_ratio_change": "encoder_attn_residual",
        "fc_ratio_change": "ffn_residual",
    },
}
NEEDED = tuple(
    f"{stack}_{name}"
    for stack in OMEGAS
    for name in ("layers", "embed_dim", "ffn_embed_dim", "attention_heads")
) + ("share_all_embeddings", "share_decoder_input_output_embed")
TASK_FLAGS = ("data", "source_lang", "target_lang", "left_pad_source", "left_pad_target", "seed")


class Meter:
    """Stands for fairseq 0.8's meters, which its checkpoints hold: a record of figures, without their code."""


METERS = [f"fairseq.meters.{name}" for name in ("AverageMeter", "TimeMeter", "StopwatchMeter")]


def import_checkpoint(path, output, force=False):
    """Write the authors' checkpoint ``path`` as ours: ``output``, for generation and fine-tuning.

    Raises:
        AdminError: if it holds other classes than the listed ones, lacks something, is of an init type that cannot
            be imported, or cannot be written; it lists all that is wrong. Nothing is written then.
    """
    check_output(output, [path], force)
    state = read(path)
    args = our_args(state.get("args"), path)
    weights = our_weights(state["model"], args)
    model = rebuild(args, weights, made_up_task(weights, path), path)
    history = state.get("optimizer_history") or [{}]
    updates = history[-1].get("num_updates", 0) if isinstance(history[-1], dict) else 0
    save_checkpoint(
        assemble(cfg_of(args), current_names(model, weights), [{"num_updates": updates}]), output
    )
    logger.info(
        "%d-%d, --init-type %s, %d updates: written to %s (without the optimizer's state)",
        args.encoder_layers, args.decoder_layers, args.init_type, updates, output,
    )  # fmt: skip


def read(path):
    """Load the authors' checkpoint; of classes it may hold a Namespace and :data:`METERS`, and nothing is run.

    Raises:
        AdminError: if it cannot be read, or is not theirs.
    """
    allowed = contextlib.nullcontext()
    if hasattr(torch.serialization, "safe_globals"):
        allowed = torch.serialization.safe_globals([(Meter, name) for name in METERS])
    with allowed:
        state = load_checkpoint(path)
    if state.get("cfg"):
        raise AdminError(
            f"{path}: written by fairseq 0.10 or later, and so not by the authors' code; nothing to import"
        )
    return state


def our_args(theirs, path):
    """Return the flags of our model, complete.

    Raises:
        AdminError: listing every flag that is missing or has no counterpart.
    """
    if not isinstance(theirs, Namespace):
        raise AdminError(f"{path}: it has no 'args'; the authors' checkpoints have")
    given = vars(theirs)
    problems = [f"its args have no {name}" for name in NEEDED if name not in given]
    problems += [
        f"its {name} is {given[name]!r}, which is no number"
        for name in NEEDED[:8]
        if not isinstance(given.get(name, 0), int)
    ]
    init_type = None if given.get("init_type") is None else str(given["init_type"])
    if init_type is None:
        problems.append("its args have no init_type: it is no checkpoint of the authors' code")
    elif init_type.startswith("rezero"):
        problems.append(
            f"init_type {init_type}: the layers of their ReZero have no counterpart here"
        )
    elif init_type not in INIT_TYPES:
        problems.append(f"init_type {init_type}: unknown; known are {', '.join(INIT_TYPES)}")
    if "admin_profile" in given:
        problems.append("it is of this plugin already; nothing to import")
    elif (
        ARCH_MODEL_NAME_REGISTRY.get(given.get("arch", "transformer"), "transformer")
        != "transformer"
    ):
        problems.append(f"arch {given['arch']}: only Transformers for translation are imported")
    if given.get("task", "translation") != "translation":
        problems.append(f"task {given['task']}: only translation is imported")
    if given.get("layer_wise_attention"):
        problems.append("layer_wise_attention: today's fairseq has no such thing")
    raise_all(f"{path} cannot be imported:", problems)

    args = Namespace(**{name: given[name] for name in model_flags() + TASK_FLAGS if name in given})
    args.task, args.arch, args._name = "translation", "admin_transformer", "admin_transformer"
    args.init_type = INIT_TYPES[init_type]
    if is_adaptive(args):
        args.admin_omega = {}  # they are with the weights
    for side, default in (
        ("left_pad_source", True),
        ("left_pad_target", False),
    ):  # they stored text
        setattr(args, side, str(getattr(args, side, default)) == "True")
    options.complete(args)
    ARCH_CONFIG_REGISTRY[args.arch](args)
    return args


def model_flags():
    """Return the names of fairseq's flags of a Transformer."""
    nested = ("encoder", "decoder", "quant_noise")
    flat = [
        flag.name
        for flag in fields(TransformerConfig)
        if flag.name not in nested and flag.name != "_name"
    ]
    return tuple(
        flat
        + [
            f"{stack}_{flag.name}"
            for stack in OMEGAS
            for flag in fields(DecoderConfig)
            if flag.name != "_name"
        ]
    )


def our_weights(theirs, args):
    """Return weights by our names; those that have no counterpart keep theirs."""
    ours = {}
    for name, value in theirs.items():
        module, _, last = name.rpartition(".")
        stack = name.split(".")[0]
        if last == "_float_tensor":
            continue
        if last in OMEGAS.get(stack, {}):
            ours[f"{module}.{OMEGAS[stack][last]}.omega"] = value
        elif last in ("in_proj_weight", "in_proj_bias"):
            for letter, rows in zip("qkv", value.chunk(3)):
                ours[f"{module}.{letter}_proj.{last[8:]}"] = rows.clone()
        elif last in ("q_proj_weight", "k_proj_weight", "v_proj_weight"):
            ours[f"{module}.{last[:6]}.weight"] = value
        elif name == "decoder.embed_out":
            ours["decoder.output_projection.weight"] = value
        else:
            ours[name] = value
    if args.share_all_embeddings or args.share_decoder_input_output_embed:
        shared = ours.get("decoder.embed_tokens.weight")
        if shared is not None:
            ours["decoder.output_projection.weight"] = shared
    if init_type_of(args) == "deepnet":
        for stack in OMEGAS:
            ours.update(
                (f"{site}.alpha", torch.tensor(closed_form(args, stack)))
                for site in stack_sites(args, stack)
            )
    return ours
