"""The flags that a checkpoint holds: data from a file, checked before a model is built from them.

fairseq runs some of them (``adaptive_softmax_cutoff`` and ``*_xformers_att_config`` go through
``eval``), opens others (``*_embed_path``) and allocates what they say. Here each has to be of its
type (``flag_types``), and of a size that the weights can have. SECURITY.md lists what else of
fairseq's a stored flag reaches, and what becomes of it.
"""

import re
from argparse import Namespace
from collections.abc import Iterator
from typing import Any

from fairseq.models import ARCH_MODEL_REGISTRY
from fairseq.models.transformer import TransformerModelBase

from ..errors import raise_all
from ..literal import literal
from ..options import EMBED_PATHS
from ..weights import Weights
from .flag_types import (
    DICTIONARIES,
    MODEL_CHECKS,
    NUMBERS_AS_TEXT,
    TASK_CHECKS,
    Check,
    is_dictionary,
)

Flags = dict[str, Any]

# what every model is built with
_SIZES = (
    *("encoder_layers", "encoder_embed_dim", "encoder_ffn_embed_dim", "encoder_attention_heads"),
    *("decoder_layers", "decoder_embed_dim", "decoder_ffn_embed_dim", "decoder_attention_heads"),
    *("max_source_positions", "max_target_positions"),
)
_LISTS = ("adaptive_softmax_cutoff", "adaptive_input_cutoff")  # older releases store them as text
# what encoders of text fetch from an address, or open
_FETCHED = (
    "bpe_codes",
    "bpe_merges",
    "bpe_vocab",
    "sentencepiece_model",
    "sentencepiece_model_path",
    "gpt2_encoder_json",
    "gpt2_vocab_bpe",
)
_FAIRSEQS_OWN = "https://dl.fbaipublicfiles.com/"  # addresses among fairseq's default values
_DEEPEST = 8  # levels of a flag's lists and dictionaries
_MOST_PROBLEMS = 20


def check_flags(state: dict[str, Any], path: str) -> None:
    """Check every flag that a checkpoint holds; lists that are stored as text become lists.

    Args:
        state: a checkpoint, as torch loads it. ``args`` (older releases) and ``cfg`` are looked at.
        path: of the file, for messages.

    Raises:
        AdminError: listing the flags that are of another type than fairseq's, hold more than plain
            values, or have impossible sizes.
    """
    problems: list[str] = []
    for prefix, flags in _sections(state):
        problems += [f"{prefix}{problem}" for problem in _not_plain(flags)]
        problems += [f"{prefix}{problem}" for problem in _to_be_fetched(flags)]
        # the flags of args and cfg.model are what a model is built from; other sections repeat some
        if prefix in ("", "model.") and not _of_another_model(flags):
            _read_numbers(flags)
            problems += _check_model_flags(flags)
        if prefix == "task.":
            problems += [f"task.{problem}" for problem in _wrong_types(flags, TASK_CHECKS)]
    raise_all(
        f"{path}: it holds flags that fairseq does not write; the file is damaged, or was made to "
        "do harm:",
        # a file that was made up may be wrong in thousands of ways
        problems[:_MOST_PROBLEMS],
    )


def forget_paths(state: dict[str, Any]) -> None:
    """Drop the files of pretrained embeddings from a checkpoint's flags.

    The weights are in the checkpoint, and the files may be gone.
    """
    for prefix, flags in _sections(state):
        if prefix in ("", "model."):
            for name in EMBED_PATHS:
                if name in flags:
                    flags[name] = None


def check_sizes(flags: Flags, weights: Weights, path: str) -> None:
    """Refuse flags that say other sizes than the weights have, before that much is allocated.

    Args:
        flags: of a Transformer, checked for their types.
        weights: the checkpoint's; what they lack is told when they are loaded.
        path: of the file, for messages.

    Raises:
        AdminError: listing each.
    """
    problems: list[str] = []
    for name in _SIZES:
        if name in flags and type(flags[name]) is not int:  # 6.0 would end in range(6.0)
            problems.append(f"{name} is {flags[name]!r}, and must be a whole number")
    raise_all(f"{path}: its flags name no model:", problems)
    for stack in ("encoder", "decoder"):
        problems += _wrong_depth(flags, weights, stack)
        problems += _wrong_dims(flags, weights, stack)
    table = weights.get("decoder.embed_tokens.weight")
    for name in _LISTS:
        if flags.get(name) and table is not None and max(flags[name]) > len(table):
            problems.append(f"{name} is {flags[name]}, but it has {len(table)} words")
    raise_all(f"{path}: its flags contradict its weights:", problems)


def _sections(state: dict[str, Any]) -> Iterator[tuple[str, Flags]]:
    """Yield (prefix, flags) of ``args`` and of ``cfg``'s sections: the state's own dictionaries."""
    if isinstance(state.get("args"), Namespace):
        yield "", vars(state["args"])
    cfg = state.get("cfg")
    if not isinstance(cfg, dict):
        return
    for name, section in cfg.items():
        if isinstance(section, Namespace):
            section = vars(section)
        if isinstance(section, dict):
            yield f"{name}.", section
        # text in place of a section would be replaced by omegaconf all the same
        elif _why_not_plain(section):
            yield "", {str(name): section}


def _not_plain(flags: Flags) -> Iterator[str]:
    """Yield what is not a plain value, or text that omegaconf would replace by something else."""
    for name, value in flags.items():
        reason = _why_not_plain(value)
        if not reason and not isinstance(name, str):
            reason = "its name is not text"
        if reason:
            yield f"{name}: {reason}"


def _why_not_plain(value: object, depth: int = 0) -> str:
    """Return why a value cannot be a flag's; empty if it can."""
    if isinstance(value, str):
        return f"{value[:80]!r} would be replaced when it is read" if "${" in value else ""
    if isinstance(value, Namespace):
        value = vars(value)
    if isinstance(value, dict):
        parts = [*value, *value.values()]
    elif isinstance(value, (list, tuple, set)):
        parts = list(value)
    else:
        return ""  # a number or the like: torch has loaded no other classes
    # a bound of our own, before Python's, which would end in a traceback
    if depth > _DEEPEST:
        return "nested too deeply"
    for part in parts:
        reason = _why_not_plain(part, depth + 1)
        if reason:
            return reason
    return ""


def _to_be_fetched(flags: Flags) -> Iterator[str]:
    for name in _FETCHED:
        address = str(flags.get(name))
        if "://" in address and not address.startswith(_FAIRSEQS_OWN):
            yield (
                f"{name} is {flags[name]!r:.80}: nothing is fetched for a checkpoint; give it on "
                "the command line"
            )


def _of_another_model(flags: Flags) -> bool:
    """Whether flags are of another model than a Transformer, where names mean other things.

    What is not registered is no Transformer that could be built.
    """
    names = [flags[name] for name in ("_name", "arch") if isinstance(flags.get(name), str)]
    for name in names:
        model = ARCH_MODEL_REGISTRY.get(name)
        if model is not None and issubclass(model, TransformerModelBase):
            return False
    # flags without any name are looked at as a Transformer's
    return bool(names)


def _read_numbers(flags: Flags) -> None:
    """Have lists and numbers that are stored as text be lists and numbers."""
    for name in _LISTS:
        if isinstance(flags.get(name), str):
            try:
                value = literal(flags[name])
            except ValueError:
                continue  # its check says that it is not a list
            if isinstance(value, int):
                value = [value]
            flags[name] = list(value) if isinstance(value, tuple) else value
    for name in NUMBERS_AS_TEXT:
        text = flags.get(name)
        # int() of endless digits raises or takes minutes; what is left as text is refused
        if isinstance(text, str) and text.isdecimal() and len(text) < 10:
            flags[name] = int(text)


def _check_model_flags(flags: Flags) -> list[str]:
    """Return what is wrong with a Transformer's flags; those of other models are not known here."""
    problems = list(_wrong_types(flags, MODEL_CHECKS))
    for name in DICTIONARIES:
        if flags.get(name) is not None and not is_dictionary(flags[name]):
            problems.append(f"{name} is {flags[name]!r:.80}, which is not a dictionary")
    return problems


def _wrong_types(flags: Flags, checks: dict[str, Check]) -> Iterator[str]:
    for name, check in checks.items():
        wrong = check(flags[name]) if name in flags else ""
        if wrong:
            yield f"{name} is {flags[name]!r:.80}, which is {wrong}"


def _wrong_depth(flags: Flags, weights: Weights, stack: str) -> Iterator[str]:
    layer_name = re.compile(rf"{stack}\.layers\.(\d+)\.")
    numbers = set()
    for name in weights:
        match = layer_name.match(name)
        if match:
            numbers.add(match[1])
    depth = len(numbers)
    layers = flags.get(f"{stack}_layers")
    # fewer allocate less than the file holds, and loading tells of them
    if layers is not None and layers > depth:
        yield f"{stack}_layers is {layers}, but it has weights of {depth} layers"


def _wrong_dims(flags: Flags, weights: Weights, stack: str) -> Iterator[str]:
    sizes = {
        f"{stack}_embed_dim": (f"{stack}.embed_tokens.weight", 1),
        f"{stack}_ffn_embed_dim": (f"{stack}.layers.0.fc1.weight", 0),
    }
    for flag, (name, axis) in sizes.items():
        weight = weights.get(name)
        if weight is None or weight.dim() != 2 or flags.get(flag) is None:
            continue
        if flags[flag] != weight.size(axis):
            yield f"{flag} is {flags[flag]}, but its {name} is {tuple(weight.shape)}"
