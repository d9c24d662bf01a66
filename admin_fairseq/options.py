"""The plugin's flags, and the combinations of flags that cannot work."""

import glob
import logging
import os
import shlex
import sys
from argparse import Namespace
from collections import OrderedDict
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field, fields
from typing import Any, Optional

from fairseq.dataclass import ChoiceEnum, FairseqDataclass
from omegaconf import OmegaConf, open_dict

from .init_types import OUTPUT_CHANGES, canonical_flags, init_type_words

logger = logging.getLogger(__name__)


@dataclass
class AdminOptions(FairseqDataclass):
    """Flags of the ``admin_transformer`` architectures, beside those of fairseq's ``transformer``."""

    init_type: ChoiceEnum(init_type_words()) = field(
        default="default",
        metadata={
            "help": "how residual sites scale and start: post-ln (or default) is fairseq's own, pre-ln "
            "fairseq's with both normalize-before flags; adaptive-profiling measures Admin's omegas "
            "on the first batch, writes the profile and exits; adaptive (or admin) trains from the "
            "profile; adaptive-auto does both in one run; analytic has a closed form for omega; "
            "deepnet, rezero, rezero_postln and looklinear are methods that Admin is compared with"
        },
    )
    analytic_output_change: ChoiceEnum(OUTPUT_CHANGES) = field(
        default="O(logn)",
        metadata={
            "help": "how the output change of an analytic model grows with the number n of residual sites"
        },
    )
    analytic_constant: bool = field(
        default=False,
        metadata={"help": "keep the omegas of an analytic model as they are: learn none"},
    )
    xavier_ffn: bool = field(
        default=False,
        metadata={
            "help": "start feed-forward weights with Xavier's distribution and zero biases, as fairseq 0.9 and the "
            "papers did; fairseq starts them smaller since 0.10"
        },
    )
    trace_interval: int = field(
        default=0,
        metadata={
            "help": "every N updates, log omega, beta and gradient norm of every residual site, next to "
            "fairseq's own figures (--tensorboard-logdir shows them); 0: never"
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
    admin_count_padding: bool = field(
        default=False,
        metadata={"help": "profile over padding positions too, as the authors' code does"},
    )


EMBED_PATHS = ("encoder_embed_path", "decoder_embed_path")
ADMIN_FLAGS = tuple(flag.name for flag in fields(AdminOptions) if flag.name != "_name")


def complete(args):
    """Return ``args`` with the flags that it lacks: models may be built from code, or by hydra.

    A Namespace is completed in place; hydra's DictConfig, which fairseq reads only in part for a
    model of the legacy kind, becomes a Namespace.
    """
    if OmegaConf.is_config(args):
        args = Namespace(**OmegaConf.to_container(args, resolve=True))
    for flag in fields(AdminOptions):
        if flag.name != "_name" and not hasattr(args, flag.name):
            setattr(args, flag.name, flag.default)
    return args


def defaults() -> dict[str, Any]:
    """Return the plugin's flags with their defaults."""
    return {flag.name: flag.default for flag in fields(AdminOptions) if flag.name != "_name"}


def canonicalize(args: Namespace, stored_args: Any) -> None:
    """Replace an alias of ``--init-type`` by what fairseq stores in checkpoints, in place.

    Args:
        args: the flags that a model is built from.
        stored_args: those that fairseq stores: the same object, or hydra's configuration.
    """
    changed = canonical_flags(args)
    vars(args).update(changed)
    store(stored_args, changed)


def store(stored_args: Any, flags: dict[str, Any]) -> None:
    """Put flags into the arguments that fairseq stores in checkpoints: a Namespace or a DictConfig."""
    with open_dict(stored_args) if OmegaConf.is_config(stored_args) else nullcontext():
        for name, value in flags.items():
            setattr(stored_args, name, value)


def only_profiles(args: Namespace) -> bool:
    """Whether the run ends when the profile is written."""
    return str(args.init_type) == "adaptive-profiling"


def profile_path(args):
    """Return where the run's profile lies."""
    return args.admin_profile or os.path.join(
        getattr(args, "save_dir", None) or "", "admin.profile"
    )


def checkpoint_to_restore(args):
    """Return the checkpoint that fairseq-train will load before training, or None.

    Follows ``fairseq.checkpoint_utils.load_checkpoint``: a file that is not there is not loaded.
    fairseq-hydra-train does not tell a model of its checkpoints: there it is always None.
    """
    if not hasattr(args, "save_dir") and not hasattr(args, "restore_file"):
        return None
    restore_file = getattr(args, "restore_file", None) or "checkpoint_last.pt"
    suffix = getattr(args, "checkpoint_suffix", None) or ""
    if restore_file == "checkpoint_last.pt":
        save_dir = getattr(args, "save_dir", None) or ""
        candidates = [
            os.path.join(save_dir, f"checkpoint_last{suffix}.pt"),
            getattr(args, "continue_once", None),
            getattr(args, "finetune_from_model", None),
        ]
    else:
        candidates = [restore_file.replace(".pt", suffix + ".pt")]
    return next((path for path in candidates if path and os.path.isfile(path)), None)


@contextmanager
def embeddings_from_checkpoint(args):
    """Let no ``--*-embed-path`` be read where a checkpoint brings the embeddings: the files may be gone by then."""
    paths = {name: getattr(args, name, None) for name in EMBED_PATHS}
    if checkpoint_to_restore(args):
        vars(args).update(dict.fromkeys(EMBED_PATHS))
    try:
        yield
    finally:
        vars(args).update(paths)


def checkpoints_in(args):
    """Return the checkpoints in the run's --save-dir."""
    save_dir = getattr(args, "save_dir", None)
    return (
        sorted(glob.glob(os.path.join(glob.escape(save_dir), "checkpoint*.pt"))) if save_dir else []
    )


def describe(args):
    """Return what of a model its profile depends on, beside its depth: name -> value, as text."""
    facts = OrderedDict()
    for name in ("embed_dim", "ffn_embed_dim", "attention_heads"):
        facts[name.replace("_", " ")] = (
            f"{getattr(args, 'encoder_' + name)}-{getattr(args, 'decoder_' + name)}"
        )
    facts["activation"] = str(args.activation_fn)
    facts["layernorm embedding"] = "yes" if args.layernorm_embedding else "no"
    return facts


def command_line(**changed_flags):
    """Return this process's command with other values of some flags; None removes a flag.

    ``command_line(init_type="adaptive", encoder_layerdrop=None)``
    """
    words = [os.path.basename(sys.argv[0])] + sys.argv[1:]
    for name, value in changed_flags.items():
        flag = "--" + name.replace("_", "-")
        words = [word for word in words if not word.startswith(flag + "=")]
        while flag in words:
            at = words.index(flag)
            del words[at : at + 2]
        words += [] if value is None else [flag, value]
    return " ".join(shlex.quote(word) for word in words)
