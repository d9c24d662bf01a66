"""The flags that a checkpoint holds: data from a file, checked before a model is built from them.

fairseq runs some of them (``adaptive_softmax_cutoff`` and ``*_xformers_att_config`` go through ``eval``), opens others
(``*_embed_path``) and allocates what they say. Here each has to be of its type, and of a size that the weights can have.
What else of fairseq's a stored flag reaches, and what becomes of it, stands in SECURITY.md.
"""

import re
from argparse import Namespace
from collections.abc import Callable, Collection, Iterator
from dataclasses import Field, fields
from enum import Enum
from typing import Any, Dict, List, Tuple

from fairseq import utils
from fairseq.models import ARCH_MODEL_REGISTRY
from fairseq.models.transformer import TransformerModelBase
from fairseq.models.transformer.transformer_config import (
    DecoderConfig,
    EncDecBaseConfig,
    QuantNoiseConfig,
    TransformerConfig,
)
from fairseq.tasks.translation import TranslationConfig

from ..errors import raise_all
from ..init_types import OUTPUT_CHANGES
from ..literal import literal
from ..options import EMBED_PATHS, AdminOptions
from ..weights import Weights

MOST_POSITIONS = 2**20
MOST_LAYERS = 10_000
WIDEST = 2**16
NESTED = {"encoder": EncDecBaseConfig, "decoder": DecoderConfig, "quant_noise": QuantNoiseConfig}
LISTS = ("adaptive_softmax_cutoff", "adaptive_input_cutoff")  # older releases store them as text
NUMBERS_AS_TEXT = (
    "decoder_input_dim",
    "decoder_output_dim",
)  # what fairseq's command line makes of them
DICTIONARIES = ("encoder_xformers_att_config", "decoder_xformers_att_config")  # always text
TEXTS = ("encoder_layers_to_keep", "decoder_layers_to_keep")  # declared as lists, and read as text
# what encoders of text fetch from an address, or open; fairseq's own addresses are among its default values
FETCHED = (
    "bpe_codes",
    "bpe_merges",
    "bpe_vocab",
    "sentencepiece_model",
    "sentencepiece_model_path",
    "gpt2_encoder_json",
    "gpt2_vocab_bpe",
)
FAIRSEQS_OWN = "https://dl.fbaipublicfiles.com/"
# further flags that commands of ours, or fairseq's translation task, read
OTHERS = {
    "arch": str,
    "_name": str,
    "source_lang": str,
    "target_lang": str,
    "seed": int,
    "task": str,
}


def check_flags(state: Dict[str, Any], path: str) -> None:
    """Check every flag that a checkpoint holds; lists that are stored as text become lists.

    Args:
        state: a checkpoint, as torch loads it. ``args`` (older releases) and ``cfg`` are looked at.

    Raises:
        AdminError: listing the flags that are of another type than fairseq's, hold more than plain values, or cannot be.
    """
    problems: List[str] = []
    for section, flags in sections(state):
        problems += [f"{section}{name}: {what}" for name, what in not_plain(flags)]
        problems += [
            f"{section}{name} is {flags[name]!r:.80}: nothing is fetched for a checkpoint; give it on the command line"
            for name in FETCHED
            if "://" in str(flags.get(name)) and not str(flags[name]).startswith(FAIRSEQS_OWN)
        ]
        if section in ("", "model.") and not of_another_model(flags):
            problems += check_model_flags(flags)
        if section == "task.":
            problems += [f"task.{problem}" for problem in wrong_types(flags, TASK_CHECKS)]
    raise_all(
        f"{path}: flags that it holds are not fairseq's; is the file damaged, or somebody's trap?",
        problems[:20],
    )


def forget_paths(state: Dict[str, Any]) -> None:
    """Drop the files of pretrained embeddings from a checkpoint's flags: the weights are in it, the files may be gone."""
    for prefix, flags in sections(state):
        if prefix in ("", "model."):
            flags.update((name, None) for name in EMBED_PATHS if name in flags)


def sections(state: Dict[str, Any]) -> Iterator[Tuple[str, Dict[str, Any]]]:
    """Yield (prefix, flags) of a checkpoint: ``args``, and the sections of ``cfg``; the dictionaries are the file's own."""
    if isinstance(state.get("args"), Namespace):
        yield "", vars(state["args"])
    for name, section in (
        (state.get("cfg") or {}).items() if isinstance(state.get("cfg"), dict) else ()
    ):
        if isinstance(section, Namespace):
            section = vars(section)
        if isinstance(section, dict):
            yield f"{name}.", section
        elif not_a_plain_value(section):
            yield "", {str(name): section}


def not_plain(flags: Dict[str, Any]) -> Iterator[Tuple[str, str]]:
    """Yield (flag, what is wrong) for what is no plain value, or text that omegaconf would replace by something else."""
    for name, value in flags.items():
        reason = not_a_plain_value(value)
        if not isinstance(name, str) or reason:
            yield str(name), reason or "its name is no text"


def not_a_plain_value(value: object, depth: int = 0) -> str:
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
    if depth > 8:
        return "nested too deeply"
    return next(
        (reason for reason in (not_a_plain_value(part, depth + 1) for part in parts) if reason), ""
    )


def of_another_model(flags: Dict[str, Any]) -> bool:
    """Whether flags are of a model that is no Transformer for translation: the same names mean other things there.

    What is not registered is no Transformer that could be built.
    """
    names = [flags[name] for name in ("_name", "arch") if isinstance(flags.get(name), str)]
    models = [ARCH_MODEL_REGISTRY.get(name) for name in names]
    return bool(names) and not any(
        model is not None and issubclass(model, TransformerModelBase) for model in models
    )


def wrong_types(flags: Dict[str, Any], checks: Dict[str, Callable[[Any], str]]) -> List[str]:
    """Return which flags do not pass their check, and why."""
    found = ((name, check(flags[name])) for name, check in checks.items() if name in flags)
    return [f"{name} is {flags[name]!r:.80}, which is {wrong}" for name, wrong in found if wrong]


def check_model_flags(flags: Dict[str, Any]) -> List[str]:
    """Return what is wrong with a Transformer's flags; those of other models are not known here."""
    for name in LISTS:
        if isinstance(flags.get(name), str):
            try:
                value = literal(flags[name])
            except ValueError:
                continue  # told below: it is no list
            flags[name] = (
                [value]
                if isinstance(value, int)
                else list(value)
                if isinstance(value, (list, tuple))
                else value
            )
    for name in NUMBERS_AS_TEXT:
        if isinstance(flags.get(name), str) and flags[name].isdecimal() and len(flags[name]) < 10:
            flags[name] = int(flags[name])
    problems = wrong_types(flags, CHECKS)
    for name in DICTIONARIES:
        if flags.get(name) is not None and not is_dictionary(flags[name]):
            problems.append(f"{name} is {flags[name]!r:.80}, which is no dictionary")
    return problems


def is_dictionary(text: object) -> bool:
    try:
        return isinstance(text, dict) or isinstance(literal(str(text)), dict)
    except ValueError:
        return False


def no_number(value: object) -> str:
    return (
        ""
        if isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < 1e12
        else "no number"
    )


def no_integer(value: object) -> str:
    whole = (
        isinstance(value, int)
        and not isinstance(value, bool)
        or isinstance(value, float)
        and value.is_integer()
    )
    return "" if whole and abs(value) < 2**40 else "no whole number"


def no_switch(value: object) -> str:
    return (
        ""
        if isinstance(value, bool) or value in (0, 1) or value in ("True", "False")
        else "neither True nor False"
    )


def no_text(value: object) -> str:
    return "" if isinstance(value, (str, Enum)) else "no text"


def no_folders(value: object) -> str:
    """A data-bin, or several with colons between; older releases had a list."""
    folders = value if isinstance(value, (list, tuple)) else [value]
    return "no folder" if any(no_text(folder) for folder in folders) else ""


def no_list_of_integers(value: object) -> str:
    good = isinstance(value, (list, tuple)) and all(
        not no_integer(item) and item > 0 for item in value
    )
    return "" if good else "no list of whole numbers"


def within(check: Callable[[Any], str], least: float, most: float) -> Callable[[Any], str]:
    """Return a check of the type first, then of the range."""
    return lambda value: (
        check(value) or ("" if least <= value <= most else f"not between {least} and {most}")
    )


def one_of(choices: Collection[str]) -> Callable[[Any], str]:
    """Return a check of a flag that has to be one of some words."""
    return lambda value: (
        no_text(value) or ("" if str(value) in choices else f"none of {', '.join(choices)}")
    )


def or_none(check: Callable[[Any], str]) -> Callable[[Any], str]:
    return lambda value: "" if value is None else check(value)


def check_of(flag: Field, name: str) -> Callable[[Any], str]:
    """Return the check of a flag by the type that fairseq declares; fairseq leaves any of them None."""
    declared = str(flag.type)
    if name in TEXTS:
        return or_none(no_text)
    if "List[int]" in declared:
        return or_none(no_list_of_integers)
    if "bool" in declared:
        return or_none(no_switch)
    if "int" in declared and "Enum" not in declared:
        return or_none(no_integer)
    if "float" in declared:
        return or_none(no_number)
    return or_none(no_text)


def all_checks() -> Dict[str, Callable[[Any], str]]:
    """Return flag -> check, for every flag of a Transformer and of this plugin."""
    checks = {name: or_none({str: no_text, int: no_integer}[kind]) for name, kind in OTHERS.items()}
    for config in (TransformerConfig, AdminOptions):
        checks.update(
            {
                flag.name: check_of(flag, flag.name)
                for flag in fields(config)
                if flag.name not in NESTED
            }
        )
    for prefix, config in NESTED.items():
        names = {f"{prefix}_{flag.name}": flag for flag in fields(config) if flag.name != "_name"}
        checks.update({name: check_of(flag, name) for name, flag in names.items()})
    del (
        checks["encoder_xformers_att_config"],
        checks["decoder_xformers_att_config"],
    )  # see DICTIONARIES
    for stack in ("encoder", "decoder"):
        checks[f"{stack}_layers"] = or_none(within(no_integer, 0, MOST_LAYERS))
        checks[f"{stack}_embed_dim"] = checks[f"{stack}_attention_heads"] = or_none(
            within(no_integer, 1, WIDEST)
        )
        checks[f"{stack}_ffn_embed_dim"] = or_none(within(no_integer, 1, 16 * WIDEST))
    for name in (*NUMBERS_AS_TEXT, "quant_noise_pq_block_size"):
        checks[name] = or_none(within(no_integer, 1, WIDEST))
    for side in ("source", "target"):
        checks[f"max_{side}_positions"] = or_none(within(no_integer, 1, MOST_POSITIONS))
    for name in (
        "dropout",
        "attention_dropout",
        "activation_dropout",
        "relu_dropout",
        "adaptive_softmax_dropout",
    ):
        checks[name] = or_none(within(no_number, 0, 1))
    checks["data"] = or_none(no_folders)
    del checks["init_type"]  # the authors' code has others; whoever builds a model from it looks
    checks["activation_fn"] = or_none(one_of(utils.get_available_activation_fns()))
    checks["analytic_output_change"] = or_none(one_of(OUTPUT_CHANGES))
    return checks


CHECKS = all_checks()
TASK_CHECKS = {
    flag.name: check_of(flag, flag.name)
    for flag in fields(TranslationConfig)
    if flag.name not in ("_name", "dataset_impl")
}
TASK_CHECKS["data"] = CHECKS["data"]


def check_sizes(flags: Dict[str, Any], weights: Weights, path: str) -> None:
    """Refuse flags that say other sizes than the weights have, before anything of that size is allocated.

    Args:
        flags: of a Transformer, checked for their types.
        weights: the checkpoint's; what they lack is told when they are loaded.

    Raises:
        AdminError: listing each.
    """
    problems = []
    for stack in ("encoder", "decoder"):
        depth = len(
            {name.split(".")[2] for name in weights if re.match(rf"{stack}\.layers\.\d+\.", name)}
        )
        layers = flags.get(f"{stack}_layers")
        if layers is not None and layers > depth:
            problems.append(f"{stack}_layers is {layers}, and it has weights of {depth} layers")
        sizes = {
            f"{stack}_embed_dim": (f"{stack}.embed_tokens.weight", 1),
            f"{stack}_ffn_embed_dim": (f"{stack}.layers.0.fc1.weight", 0),
        }
        for flag, (name, axis) in sizes.items():
            found = weights.get(name)
            if (
                found is not None
                and found.dim() == 2
                and flags.get(flag) not in (None, found.size(axis))
            ):
                problems.append(f"{flag} is {flags[flag]}, and its {name} is {tuple(found.shape)}")
    table = weights.get("decoder.embed_tokens.weight")
    for name in LISTS:
        if flags.get(name) and table is not None and max(flags[name]) > len(table):
            problems.append(f"{name} is {flags[name]}, and it has {len(table)} words")
    raise_all(f"{path}: its flags and its weights do not fit:", problems)
