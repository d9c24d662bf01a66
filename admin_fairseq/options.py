"""The plugin's flags, and what the flags of a run say of its files. The refused ones: ``rules``.

fairseq reads the types of ``AdminOptions`` when it makes flags. As strings, which is what
``from __future__ import annotations`` makes of them, or as ``X | None`` they break every command of
fairseq's: this module has neither.
"""

import glob
import os
import shlex
import sys
from argparse import Namespace
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any, Optional

from fairseq.dataclass import ChoiceEnum, FairseqDataclass
from omegaconf import OmegaConf, open_dict

from .closed_forms import OUTPUT_CHANGES
from .init_types import OMEGA_SHAPES, canonical_flags, init_type_words

EMBED_PATHS = ("encoder_embed_path", "decoder_embed_path")
LAST_CHECKPOINT = "checkpoint_last.pt"


# the same flags in fairseq's eyes and in a type checker's, which cannot read made enumerations
if TYPE_CHECKING:
    InitType = str
    OmegaShape = str
    OutputChange = str
else:
    InitType = ChoiceEnum(init_type_words())
    OmegaShape = ChoiceEnum(OMEGA_SHAPES)
    OutputChange = ChoiceEnum(OUTPUT_CHANGES)


@dataclass
class AdminOptions(FairseqDataclass):
    """Flags of the ``admin_transformer`` architectures, beside those of ``transformer``."""

    init_type: InitType = field(
        default="default",
        metadata={
            "help": "how residual sites scale and start: default (or post-ln) is fairseq's own, "
            "pre-ln the same with both normalize-before flags; adaptive-profiling measures Admin's "
            "omegas on the first batch, writes the profile and exits; adaptive (or admin) trains "
            "from the profile; adaptive-auto does both in one run; adaptive-flat (or admin-flat) "
            "is adaptive with --omega-shape flat; analytic has a closed form for omega; deepnet, "
            "rezero, rezero_postln and looklinear are methods that Admin is compared with"
        },
    )
    omega_shape: Optional[OmegaShape] = field(
        default=None,
        metadata={
            "help": "how Admin's omegas run through a stack: recursion, the paper's, grows from 1; "
            "flat gives every site the recursion's last. One profile holds both (default: what "
            "the profile was written with, and recursion where it is measured)"
        },
    )
    analytic_output_change: OutputChange = field(
        default="O(logn)",
        metadata={
            "help": "how the output change of an analytic model grows with the number n of "
            "residual sites"
        },
    )
    analytic_constant: bool = field(
        default=False,
        metadata={"help": "keep the omegas of an analytic model as they are: learn none"},
    )
    xavier_ffn: bool = field(
        default=False,
        metadata={
            "help": "start feed-forward weights with Xavier's distribution and zero biases, as "
            "fairseq 0.9 and the papers did; fairseq starts them smaller since 0.10. For biases of "
            "q, k and v: --zero-qkv-bias"
        },
    )
    zero_qkv_bias: bool = field(
        default=False,
        metadata={
            "help": "start the biases of q, k and v at 0, as the authors' code did; fairseq, 0.9 "
            "too, draws them at random"
        },
    )
    fused_layers: bool = field(
        default=False,
        metadata={
            "help": "compute attention and dropout in fewer passes: equal to rounding without "
            "dropout, and with other random masks with it. A checkpoint goes on with and without"
        },
    )
    trace_interval: int = field(
        default=0,
        metadata={
            "help": "every N updates, log omega, beta and gradient norm of every residual site, "
            "next to fairseq's own figures (--tensorboard-logdir shows them); 0: never"
        },
    )
    admin_profile: Optional[str] = field(
        default=None,
        metadata={"help": "the profile to write or read (default: admin.profile in --save-dir)"},
    )
    freeze_first_omega: bool = field(
        default=False,
        metadata={
            "help": "keep the first omega of both stacks at 1: folding the model is then free"
        },
    )
    freeze_omega: bool = field(
        default=False,
        metadata={"help": "keep Admin's omegas as the profile has them: learn none"},
    )
    admin_count_padding: bool = field(
        default=False,
        metadata={"help": "profile over padding positions too, as the authors' code does"},
    )


ADMIN_FLAGS = tuple(flag.name for flag in fields(AdminOptions) if flag.name != "_name")


def defaults() -> dict[str, Any]:
    """Return the plugin's flags with their defaults."""
    return {flag.name: flag.default for flag in fields(AdminOptions) if flag.name in ADMIN_FLAGS}


def complete(args: Any) -> Namespace:
    """Return ``args`` with the flags that it lacks: models may be built from code, or by hydra.

    A Namespace is completed in place; hydra's DictConfig, which fairseq reads only in part for a
    model of the legacy kind, becomes a Namespace.
    """
    if OmegaConf.is_config(args):
        flags: Any = OmegaConf.to_container(args, resolve=True)
        args = Namespace(**flags)
    for name, default in defaults().items():
        # not by value: None and False may have been said on purpose
        if not hasattr(args, name):
            setattr(args, name, default)
    return args


def canonicalize(args: Namespace, stored_args: Any) -> None:
    """Replace an alias of ``--init-type`` by what fairseq stores in checkpoints, in place.

    Args:
        args: the flags that a model is built from.
        stored_args: those that fairseq stores: the same object, or hydra's configuration.
    """
    changed = canonical_flags(args)
    store(args, changed)
    store(stored_args, changed)


def store(args: Any, flags: dict[str, Any]) -> None:
    """Put flags into a Namespace or one of hydra's configurations."""
    # hydra's configurations refuse keys that they do not have yet
    with open_dict(args) if OmegaConf.is_config(args) else nullcontext():
        for name, value in flags.items():
            setattr(args, name, value)


def stored_omegas(args: Namespace) -> Optional[dict[str, float]]:
    """Return the omegas that a training started from; None where no training has begun.

    They lie beside the flags in checkpoints, ``{site: omega}``. Empty, they came with the weights
    of another checkpoint.
    """
    return getattr(args, "admin_omega", None)


def omega_shape(args: Namespace) -> Optional[str]:
    """Return the shape of omega that is asked for; None where that is left to the profile."""
    shape = getattr(args, "omega_shape", None)
    return None if shape is None else str(shape)


def only_profiles(args: Namespace) -> bool:
    """Whether the run ends when the profile is written."""
    return str(args.init_type) == "adaptive-profiling"


def profile_path(args: Namespace) -> str:
    """Return where the run's profile lies."""
    save_dir = getattr(args, "save_dir", None) or ""
    return args.admin_profile or os.path.join(save_dir, "admin.profile")


def checkpoint_to_restore(args: Namespace) -> Optional[str]:
    """Return the checkpoint that fairseq-train will load before training, or None.

    Follows ``fairseq.checkpoint_utils.load_checkpoint``: a file that does not exist is not loaded.
    fairseq-hydra-train does not tell a model of its checkpoints: there it is always None.
    """
    if not hasattr(args, "save_dir") and not hasattr(args, "restore_file"):
        return None
    restore_file = getattr(args, "restore_file", None) or LAST_CHECKPOINT
    suffix = getattr(args, "checkpoint_suffix", None) or ""
    # fairseq puts the suffix before the ending
    candidates = [restore_file.replace(".pt", suffix + ".pt")]
    if restore_file == LAST_CHECKPOINT:
        # in the order of fairseq: a run's own checkpoint comes before what it began with
        candidates = [os.path.join(getattr(args, "save_dir", None) or "", candidates[0])]
        # one of the two: fairseq does not go on to the second if the first is missing
        begun_with = getattr(args, "continue_once", None)
        if begun_with is None:
            begun_with = getattr(args, "finetune_from_model", None)
        candidates.append(begun_with or "")
    for path in candidates:
        if os.path.isfile(path):
            return path
    return None


def checkpoints_in(args: Namespace) -> list[str]:
    """Return the checkpoints in the run's --save-dir."""
    save_dir = getattr(args, "save_dir", None)
    if not save_dir:
        return []
    # escaped: brackets in a folder's name would be a pattern
    return sorted(glob.glob(os.path.join(glob.escape(save_dir), "checkpoint*.pt")))


@contextmanager
def embeddings_from_checkpoint(args: Namespace) -> Iterator[None]:
    """Let no ``--*-embed-path`` be read where a checkpoint brings the embeddings.

    The files may be gone by then.
    """
    paths = {name: getattr(args, name, None) for name in EMBED_PATHS}
    if checkpoint_to_restore(args):
        vars(args).update(dict.fromkeys(EMBED_PATHS))
    try:
        yield
    finally:
        # what was said is stored in checkpoints, as by a run without checkpoint
        vars(args).update(paths)


def describe(args: Namespace) -> dict[str, str]:
    """Return what of a model its profile depends on, beside its depth: name -> value, as text."""
    facts: dict[str, str] = {}
    for name in ("embed_dim", "ffn_embed_dim", "attention_heads"):
        encoder, decoder = (getattr(args, f"{stack}_{name}") for stack in ("encoder", "decoder"))
        facts[name.replace("_", " ")] = f"{encoder}-{decoder}"
    facts["activation"] = str(args.activation_fn)
    facts["layernorm embedding"] = "yes" if args.layernorm_embedding else "no"
    return facts


def command_line(**changed_flags: Optional[str]) -> str:
    """Return this process's command with other values of some flags; None removes a flag.

    ``command_line(init_type="adaptive", encoder_layerdrop=None)``
    """
    words = [os.path.basename(sys.argv[0])] + sys.argv[1:]
    for name, value in changed_flags.items():
        flag = "--" + name.replace("_", "-")
        # both spellings, --flag=VALUE and --flag VALUE; of a flag given twice both go
        words = [word for word in words if not word.startswith(flag + "=")]
        while flag in words:
            at = words.index(flag)
            del words[at : at + 2]
        if value is not None:
            words += [flag, value]
    return " ".join(shlex.quote(word) for word in words)
