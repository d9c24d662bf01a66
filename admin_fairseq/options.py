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
from typing import Optional

from fairseq.dataclass import ChoiceEnum, FairseqDataclass
from omegaconf import OmegaConf, open_dict

from .errors import raise_all
from .init_types import INIT_TYPES, MIRRORED, OUTPUT_CHANGES, is_adaptive

logger = logging.getLogger(__name__)


@dataclass
class AdminOptions(FairseqDataclass):
    """Flags of the ``admin_transformer`` architectures, beside those of fairseq's ``transformer``."""

    init_type: ChoiceEnum(INIT_TYPES) = field(
        default="default",
        metadata={
            "help": "how residual sites scale and start: default is fairseq's Post-LN (or Pre-LN, with the "
            "normalize-before flags); adaptive-profiling measures the first batch, writes the profile and exits; "
            "adaptive trains Admin from the profile; adaptive-auto does both in one run; analytic has a closed form "
            "for omega; deepnet, rezero, rezero_postln and looklinear are the methods that Admin is compared with"
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


def store_omega(given_args, omega):
    """Put the omegas that training starts from into the arguments that fairseq stores in checkpoints."""
    with open_dict(given_args) if OmegaConf.is_config(given_args) else nullcontext():
        given_args.admin_omega = omega


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


def check(args):
    """Refuse flags that contradict each other.

    Raises:
        AdminError: with every reason at once.
    """
    if args.init_type not in INIT_TYPES:
        raise_all(
            "unknown init type:",
            [f"--init-type {args.init_type}: choose from {', '.join(INIT_TYPES)}"],
        )
    warn_unused(args)
    sharded = _given(args, "ddp_backend") == "fully_sharded"
    problems = []
    if args.trace_interval < 0:
        problems.append(
            f"--trace-interval {args.trace_interval}: 0 for never, or a number of updates"
        )
    if args.trace_interval and sharded:
        problems.append(
            "--trace-interval with --ddp-backend fully_sharded: its flat shards have no sites to look at"
        )
    if not checkpoint_to_restore(args):
        problems += [
            f"--{name.replace('_', '-')} {_given(args, name)}: no such file"
            for name in EMBED_PATHS
            if _given(args, name) and not os.path.isfile(_given(args, name))
        ]
    raise_all("these flags cannot work:", problems)
    if args.init_type == "default":
        return
    rules = [
        (
            _given(args, "base_layers"),
            "--base-layers: these layers have no residual site; leave it out",
        ),
        (
            sharded and (is_adaptive(args) or args.init_type.startswith("rezero")),
            "--ddp-backend fully_sharded: its flat shards have no scale to fill or to share; use legacy_ddp or pytorch_ddp",
        ),
    ]
    if args.init_type == "deepnet":
        for flag in ("encoder_layers", "decoder_layers"):
            number = getattr(args, flag)
            rules.append(
                (number < 1, f"--{flag.replace('_', '-')} {number}: its scales are of two stacks")
            )
    if args.init_type != "looklinear":
        rules += [
            (
                _given(args, f"{stack}_normalize_before"),
                f"--{stack}-normalize-before: leave it out, this is not Pre-LN (Pre-LN is --init-type default with both "
                "normalize-before flags; architectures that end in _t2t have them set)",
            )
            for stack in ("encoder", "decoder")
        ]
    else:
        activation = args.activation_fn
        rules.append(
            (activation not in MIRRORED, f"--activation-fn {activation}: use {', '.join(MIRRORED)}")
        )
        for flag in ("--encoder-ffn-embed-dim", "--decoder-ffn-embed-dim"):
            size = getattr(args, flag[2:].replace("-", "_"))
            rules.append((size % 2, f"{flag} {size}: it must be even, to be mirrored"))
    if is_adaptive(args):
        rules += rules_for_profiles(args)
    problems = [reason for broken, reason in rules if broken]
    raise_all(f"--init-type {args.init_type} cannot work with:", problems)


def warn_unused(args):
    """Say which of the plugin's flags this init type does not read."""
    unused = (
        [] if is_adaptive(args) else ["admin_profile", "freeze_first_omega", "admin_count_padding"]
    )
    if args.init_type != "analytic":
        unused += ["analytic_output_change", "analytic_constant"]
    defaults = {flag.name: flag.default for flag in fields(AdminOptions)}
    for name in unused:
        if getattr(args, name) != defaults[name]:
            logger.warning(
                "--%s does nothing with --init-type %s", name.replace("_", "-"), args.init_type
            )


def rules_for_profiles(args):
    """Return what ``adaptive*`` cannot work with: (whether it is so, the reason and the way out)."""
    measures = args.init_type in ("adaptive-profiling", "adaptive-auto")
    rules = [
        (
            measures and _given(args, "encoder_layerdrop"),
            "--encoder-layerdrop: a dropped layer cannot be measured; profile without it, train with it",
        ),
        (
            measures and _given(args, "decoder_layerdrop"),
            "--decoder-layerdrop: a dropped layer cannot be measured; profile without it, train with it",
        ),
    ]
    if args.init_type == "adaptive-auto":
        rules += [
            (
                _given(args, "store_ema"),
                "--store-ema: the average would start before omega is set; use adaptive-profiling, then adaptive",
            ),
            (
                _given(args, "quant_noise_pq"),
                "--quant-noise-pq: the noise changes weights while measuring; use adaptive-profiling, then adaptive",
            ),
            (
                _given(args, "use_bmuf"),
                "--use-bmuf: it keeps a copy of the weights from before omega is set; use adaptive-profiling, then adaptive",
            ),
        ]
    if args.init_type == "adaptive-profiling":
        found = checkpoint_to_restore(args) or next(iter(checkpoints_in(args)), None)
        rules.append(
            (
                found,
                f"{found}: a profile is of fresh weights, and belongs to the checkpoints beside it; "
                "use an empty --save-dir, and no --restore-file or --finetune-from-model",
            )
        )
    return rules


def _given(args, name):
    return getattr(args, name, None)
