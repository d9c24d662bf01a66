"""Of what type a stored flag has to be, as fairseq declares it, and of what size if that is known.

A check takes a value and returns what is wrong with it ("not a number"); empty text if nothing is.
"""

from collections.abc import Callable, Collection
from dataclasses import Field, fields
from enum import Enum
from typing import Any

from fairseq import utils
from fairseq.models.transformer.transformer_config import (
    DecoderConfig,
    EncDecBaseConfig,
    QuantNoiseConfig,
    TransformerConfig,
)
from fairseq.tasks.translation import TranslationConfig

from ..closed_forms import OUTPUT_CHANGES
from ..init_types import OMEGA_SHAPES
from ..literal import literal
from ..options import AdminOptions

Check = Callable[[Any], str]

# far beyond any model's, and small enough to be allocated without harm
_MOST_POSITIONS = 2**20
_MOST_LAYERS = 10_000
_WIDEST = 2**16

NESTED = {"encoder": EncDecBaseConfig, "decoder": DecoderConfig, "quant_noise": QuantNoiseConfig}
# what fairseq's command line makes of these numbers
NUMBERS_AS_TEXT = ("decoder_input_dim", "decoder_output_dim")
# always text, which fairseq would evaluate
DICTIONARIES = ("encoder_xformers_att_config", "decoder_xformers_att_config")
# those of the task that eval_bool reads
_SWITCHES_AS_TEXT = ("left_pad_source", "left_pad_target")
# declared as lists, and read as text
_TEXTS = ("encoder_layers_to_keep", "decoder_layers_to_keep")
# further flags that commands of ours, or fairseq's translation task, read
_OTHERS = {
    "arch": str,
    "_name": str,
    "source_lang": str,
    "target_lang": str,
    "seed": int,
    "task": str,
}
_DROPOUTS = (
    "dropout",
    "attention_dropout",
    "activation_dropout",
    "relu_dropout",
    "adaptive_softmax_dropout",
)


def is_dictionary(value: object) -> bool:
    """Whether a value is a dictionary, or the text of one."""
    if isinstance(value, dict):
        return True
    try:
        return isinstance(literal(str(value)), dict)
    except ValueError:
        return False


def _number(value: Any) -> str:
    # True is an int to Python
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return "not a number"
    return "" if abs(value) < 1e12 else "not a number"  # NaN is not below either


def _integer(value: Any) -> str:
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int) or abs(value) >= 2**40:
        return "not a whole number"
    return ""


def _switch(value: Any) -> str:
    if isinstance(value, bool) or value in (0, 1):
        return ""
    return "neither True nor False"


def _switch_or_text(value: Any) -> str:
    """Older releases kept some of the task's switches as text, which fairseq reads as such."""
    return "" if value in ("True", "False") else _switch(value)


def _text(value: Any) -> str:
    return "" if isinstance(value, (str, Enum)) else "not text"


def _folders(value: Any) -> str:
    """A data-bin, or several with colons between; older releases had a list."""
    folders = value if isinstance(value, (list, tuple)) else [value]
    return "not the path of a folder" if any(_text(folder) for folder in folders) else ""


def _list_of_integers(value: Any) -> str:
    if not isinstance(value, (list, tuple)):
        return "not a list of whole numbers"
    for item in value:
        if _integer(item) or item <= 0:
            return "not a list of whole numbers"
    return ""


def _within(check: Check, least: float, most: float) -> Check:
    """Return a check of the type first, then of the range."""

    def check_range(value: Any) -> str:
        wrong = check(value)
        if wrong or least <= value <= most:
            return wrong
        return f"not between {least} and {most}"

    return check_range


def _one_of(choices: Collection[str]) -> Check:
    """Return a check of a flag that has to be one of some words."""

    def check_choice(value: Any) -> str:
        wrong = _text(value)
        if wrong or str(value) in choices:
            return wrong
        return f"none of {', '.join(choices)}"

    return check_choice


def _or_none(check: Check) -> Check:
    """Return a check that takes None too: fairseq leaves any flag None."""

    def check_unless_none(value: Any) -> str:
        return "" if value is None else check(value)

    return check_unless_none


def _check_of(flag: Field, name: str) -> Check:
    """Return the check of a flag by the type that fairseq declares."""
    # by its text: classes, enumerations and typing's Optional cannot be asked in one way
    declared = str(flag.type)
    if name in _TEXTS:
        return _or_none(_text)
    # the longer words first: there is an "int" in "List[int]"
    if "List[int]" in declared:
        return _or_none(_list_of_integers)
    if "bool" in declared:
        return _or_none(_switch)
    if "int" in declared and "Enum" not in declared:
        return _or_none(_integer)
    if "float" in declared:
        return _or_none(_number)
    return _or_none(_text)


def _checks_by_type() -> dict[str, Check]:
    """Return flag -> check of its declared type, for all of a Transformer's and the plugin's."""
    checks = {}
    for name, kind in _OTHERS.items():
        checks[name] = _or_none(_text if kind is str else _integer)
    for config in (TransformerConfig, AdminOptions):
        for flag in fields(config):
            if flag.name not in NESTED:
                checks[flag.name] = _check_of(flag, flag.name)
    for prefix, config in NESTED.items():
        for flag in fields(config):
            if flag.name != "_name":
                name = f"{prefix}_{flag.name}"
                checks[name] = _check_of(flag, name)
    return checks


def _model_checks() -> dict[str, Check]:
    checks = _checks_by_type()
    for name in DICTIONARIES:
        del checks[name]  # text or a dictionary: is_dictionary
    del checks["init_type"]  # the authors' code has others; whoever builds a model from it looks
    for stack in ("encoder", "decoder"):
        checks[f"{stack}_layers"] = _or_none(_within(_integer, 0, _MOST_LAYERS))
        checks[f"{stack}_embed_dim"] = _or_none(_within(_integer, 1, _WIDEST))
        checks[f"{stack}_attention_heads"] = _or_none(_within(_integer, 1, _WIDEST))
        checks[f"{stack}_ffn_embed_dim"] = _or_none(_within(_integer, 1, 16 * _WIDEST))
    for name in (*NUMBERS_AS_TEXT, "quant_noise_pq_block_size"):
        checks[name] = _or_none(_within(_integer, 1, _WIDEST))
    for side in ("source", "target"):
        checks[f"max_{side}_positions"] = _or_none(_within(_integer, 1, _MOST_POSITIONS))
    for name in _DROPOUTS:
        checks[name] = _or_none(_within(_number, 0, 1))
    checks["data"] = _or_none(_folders)
    checks["activation_fn"] = _or_none(_one_of(utils.get_available_activation_fns()))
    checks["omega_shape"] = _or_none(_one_of(OMEGA_SHAPES))
    checks["analytic_output_change"] = _or_none(_one_of(OUTPUT_CHANGES))
    return checks


def _task_checks() -> dict[str, Check]:
    checks = {}
    for flag in fields(TranslationConfig):
        if flag.name not in ("_name", "dataset_impl"):
            checks[flag.name] = _check_of(flag, flag.name)
        if flag.name in _SWITCHES_AS_TEXT:
            checks[flag.name] = _or_none(_switch_or_text)
    checks["data"] = _or_none(_folders)
    return checks


MODEL_CHECKS = _model_checks()
TASK_CHECKS = _task_checks()
