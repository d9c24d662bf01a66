"""Checkpoints: reading and writing them, and models from them, in our layers, whatever Transformer of fairseq's."""

import copy
import logging
import re
import warnings
from argparse import Namespace

import torch
from fairseq.dataclass.utils import convert_namespace_to_omegaconf
from fairseq.models import ARCH_CONFIG_REGISTRY, ARCH_MODEL_NAME_REGISTRY
from omegaconf import OmegaConf

from . import files, options
from .errors import AdminError, raise_all
from .init_types import is_adaptive
from .layers import FASTPATH_COPIES
from .model import AdminTransformerModel

ARCHITECTURES = ("transformer", "admin_transformer")


def load_checkpoint(path):
    """Load a fairseq checkpoint to the CPU; only allow-listed classes are unpickled.

    Raises:
        AdminError: naming the file, if it is missing, damaged or something else.
    """
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise AdminError(f"{path}: no such checkpoint") from None
    except IsADirectoryError:
        raise AdminError(f"{path}: cannot be read as a checkpoint: it is a folder; name a checkpoint in it") from None
    except OSError as error:
        raise AdminError(f"{path}: cannot be read: {error.strerror or error}") from None
    except Exception as error:  # torch raises half a dozen kinds for files that it cannot read
        raise AdminError(f"{path}: cannot be read as a checkpoint: {_why(path, error)}") from None
    if not isinstance(state, dict) or not isinstance(state.get("model"), dict):
        raise AdminError(f"{path}: not a fairseq checkpoint: it has no 'model'")
    odd = [name for name, value in state["model"].items() if not isinstance(name, str) or not torch.is_tensor(value)]
    if odd:
        raise AdminError(f"{path}: not a fairseq checkpoint: its weight {odd[0]} is no tensor with a name")
    return state


def _why(path, error):
    foreign = re.search(r"(?:Unsupported global:|unsupported) GLOBAL (\S+)", str(error))
    if foreign:
        theirs = foreign[1].startswith("fairseq.meters.")
        hint = "; is it of the authors' code? Then: admin-fairseq import CHECKPOINT OUT" if theirs else ""
        return f"it holds a {foreign[1]}, which is not loaded{hint}"
    with open(path, "rb") as file:
        start = file.read(2)
    if not start:
        return "it is empty"
    if start in (b"PK", b"\x80\x02"):  # how torch's files begin, of today and before 1.6
        return "it is truncated or damaged"
    return "it is something else"


def save_checkpoint(state, path):
    """Write a checkpoint, whole or not at all.

    Raises:
        AdminError: naming the file, if it cannot be written.
    """
    try:
        with files.replacing(path) as file:
            torch.save(state, file)
    except OSError as error:
        raise AdminError(f"{path}: cannot be written: {error.strerror or error}") from None
    except RuntimeError:  # torch's own, about its writer's insides
        raise AdminError(f"{path}: cannot be written: is the disk full?") from None


def check_architecture(arch, what):
    """Refuse what is not a Transformer with fairseq's layers."""
    if ARCH_MODEL_NAME_REGISTRY.get(arch) not in ARCHITECTURES:
        raise AdminError(
            f"{what}: only the residual sites of fairseq's transformer and admin_transformer "
            "architectures are known, and this is neither"
        )


def whole(args):
    """Switch off what drops layers or disturbs weights during a training pass: probes look at all of the model."""
    args.encoder_layerdrop = args.decoder_layerdrop = 0
    args.quant_noise_pq = 0
    return args


def construct(args, task):
    try:
        return AdminTransformerModel.build_model(args, task)
    except (ValueError, AssertionError) as error:  # how fairseq refuses flags
        raise AdminError(f"the model cannot be built: {error}") from None


def restore(path, task):
    """Load a checkpoint into our layers; a stock ``transformer``'s has the same weights, and plain sites."""
    state = load_checkpoint(path)
    return rebuild(whole(stored_args(state, path)), state["model"], task, path)


def rebuild(args, weights, task, path):
    """Build the model of a checkpoint's flags (complete; changed in place) with its weights.

    Raises:
        AdminError: naming ``path`` and every weight that does not fit.
    """
    if is_adaptive(args):
        args.init_type, args.admin_omega = "adaptive", {}
    args.encoder_embed_path = args.decoder_embed_path = None  # the embeddings are in the checkpoint, and the files may be gone
    try:
        model = construct(args, task)
    except (TypeError, AttributeError, RuntimeError) as error:  # RuntimeError: ours too; others are fairseq's for odd flags
        raise AdminError(f"{path}: no model can be built from its flags: {error}") from None
    weights = current_names(model, weights)
    raise_all(f"{path} does not fit the data or its own flags:", differences(model.state_dict(), weights))
    model.load_state_dict(weights)
    return model


def current_names(model, weights):
    """Return weights under the names of today's fairseq, without what 0.12.2 stored twice."""
    weights = dict(weights)
    try:
        model.upgrade_state_dict(weights)
    except AssertionError:  # fairseq's, about an adaptive softmax without its weights
        raise AdminError("the checkpoint lacks weights of the output layer that its flags name") from None
    return {name: value for name, value in weights.items() if name.rpartition(".")[2] not in FASTPATH_COPIES}


def stored_args(state, path):
    """Return the flags that a checkpoint was trained with, complete."""
    args = state.get("args") or (state.get("cfg") or {}).get("model")
    if isinstance(args, dict) and "arch" in args:
        args = Namespace(**args)
    if not isinstance(args, Namespace) or not hasattr(args, "arch"):
        raise AdminError(f"{path}: it does not say its architecture; it must come from fairseq-train")
    check_architecture(args.arch, f"{path} (--arch {args.arch})")
    args = options.complete(copy.deepcopy(args))
    ARCH_CONFIG_REGISTRY[args.arch](args)
    return args


def differences(ours, theirs):
    """Return what keeps the weights ``theirs`` from being loaded, one line each."""
    known = {name: tuple(value.shape) for name, value in ours.items() if "version" not in name}
    given = {name: tuple(value.shape) for name, value in theirs.items() if "version" not in name}
    ignored = ("_float_tensor", "embed_positions.weights")
    problems = [f"{name} is missing" for name in known if name not in given and not name.endswith(ignored)]
    problems += [f"{name} is not the model's" for name in given if name not in known and not name.endswith(ignored)]
    for name in known:
        if name in given and known[name] != given[name]:
            hint = "; the data-bin's dictionary is another" if "embed_tokens" in name else ""
            problems.append(f"{name} is {given[name]}, and would have to be {known[name]}{hint}")
    return problems if len(problems) < 10 else problems[:9] + [f"... and {len(problems) - 9} more"]


def cfg_of(args):
    """Return flags in the layout in which today's fairseq stores them, section by section.

    Raises:
        AdminError: if fairseq does not understand them.
    """
    logging.getLogger("hydra").setLevel(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # hydra's, of how fairseq calls it
            cfg = convert_namespace_to_omegaconf(args)
    except Exception as error:  # hydra raises its own for flags that are unknown or of another type
        raise AdminError(f"fairseq cannot read these flags: {error}") from None
    return OmegaConf.to_container(cfg, resolve=True, enum_to_str=True)


def assemble(cfg, weights, history=None, task_state=None, extra_state=None):
    """Return a checkpoint that fairseq loads, without an optimizer's state: ``history`` and the rest may be another's."""
    nothing = {"criterion_name": None, "optimizer_name": None, "lr_scheduler_state": {"best": None}, "num_updates": 0}
    return {
        "args": None,
        "cfg": cfg,
        "model": weights,
        "criterion": None,
        "optimizer_history": [{**nothing, **item} for item in history or [{}]],
        "task_state": task_state or {},
        "extra_state": {"train_iterator": {"epoch": 1}, **(extra_state or {})},
    }
