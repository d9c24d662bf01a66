"""From a checkpoint to its model, in our layers: ours, a stock Transformer's, or a user's class."""

import copy
from argparse import Namespace
from typing import Any, Optional

from fairseq.models import ARCH_CONFIG_REGISTRY, ARCH_MODEL_REGISTRY, BaseFairseqModel
from fairseq.models.transformer import TransformerModel
from fairseq.models.transformer.transformer_config import (
    DEFAULT_MAX_SOURCE_POSITIONS,
    DEFAULT_MAX_TARGET_POSITIONS,
)
from fairseq.modules import BaseLayer

from .. import options
from ..errors import AdminError, raise_all
from ..layers import FASTPATH_COPIES, AdminDecoderLayer, AdminEncoderLayer
from ..model import AdminTransformerModel
from ..weights import Weights, differences
from .dictionaries import stand_in_task
from .flags import check_sizes
from .read import State, load_checkpoint

_POSITIONS = {
    "max_source_positions": DEFAULT_MAX_SOURCE_POSITIONS,
    "max_target_positions": DEFAULT_MAX_TARGET_POSITIONS,
}
_OUR_LAYERS = (AdminEncoderLayer, AdminDecoderLayer, BaseLayer)


def restore(path: str, task: Any) -> BaseFairseqModel:
    """Load a checkpoint into our layers; a stock ``transformer``'s weights fit: plain sites.

    Weights that are not finite are loaded: what looks at them tells.

    Raises:
        AdminError: naming ``path`` and what is wrong with it.
    """
    return restore_state(load_checkpoint(path, finite=False), path, task)


def restore_state(state: State, path: str, task: Any) -> BaseFairseqModel:
    """Do what :func:`restore` does, from what ``path`` holds."""
    return rebuild(whole(stored_args(state, path)), state["model"], path, task)


def stored_args(state: State, path: str) -> Namespace:
    """Return the flags that a checkpoint was trained with, complete.

    Raises:
        AdminError: if it has none, or is of an architecture that is not known here.
    """
    # args before cfg, as fairseq does
    args = state.get("args")
    if not args:
        cfg = state.get("cfg") or {}
        args = cfg.get("model")
    if isinstance(args, dict):
        args = Namespace(**args)
    if isinstance(args, Namespace) and not hasattr(args, "arch"):
        args.arch = getattr(args, "_name", None)  # fairseq-hydra-train's own name for it
    if not isinstance(args, Namespace) or not isinstance(getattr(args, "arch", None), str):
        raise AdminError(
            f"{path}: it does not say its architecture; it must come from fairseq-train"
        )
    check_architecture(args.arch, f"{path} (--arch {args.arch})")
    # a copy: the checkpoint's own flags stay as they were stored
    args = options.complete(copy.deepcopy(args))
    # sets flags that were not there when an older release stored these
    ARCH_CONFIG_REGISTRY[args.arch](args)
    for name, longest in _POSITIONS.items():  # fairseq-hydra-train keeps them with the task
        if getattr(args, name, None) is None:
            setattr(args, name, longest)
    return args


def whole(args: Namespace) -> Namespace:
    """Switch off what drops layers or disturbs weights: probes look at all of the model."""
    args.encoder_layerdrop = args.decoder_layerdrop = 0
    args.quant_noise_pq = 0
    return args


def rebuild(
    args: Namespace, weights: Weights, path: str, task: Optional[Any] = None
) -> BaseFairseqModel:
    """Build the model of a checkpoint's flags with its weights.

    Args:
        args: the flags, complete: see :func:`stored_args`.
        weights: the checkpoint's.
        path: of the checkpoint, for messages.
        task: has the dictionaries; None is for stand-ins of the right size.

    Raises:
        AdminError: naming ``path`` and every weight that does not fit.
    """
    model, _ = rebuild_and_rename(args, weights, path, task)
    return model


def rebuild_and_rename(
    args: Namespace, weights: Weights, path: str, task: Optional[Any] = None
) -> tuple[BaseFairseqModel, Weights]:
    """Return what :func:`rebuild` does, and the weights under the names of today's fairseq.

    Those keep the dtypes of the file, which the model's own do not.
    """
    if task is None:
        task = stand_in_task(weights, path)
    # before anything of that size is allocated
    check_sizes(vars(args), weights, path)
    args = copy.deepcopy(args)
    # the embeddings are in the checkpoint, and the files may be gone
    args.encoder_embed_path = args.decoder_embed_path = None
    # what is compared and probed computes as fairseq does, and calls every module that it has
    args.fused_layers = False
    try:
        model = construct(args, task)
    except AdminError as error:
        # the cause is what a user's own class raised, whose traceback they will want
        raise AdminError(
            f"{path}: no model can be built from its flags: {error}"
        ) from error.__cause__
    renamed = _current_names(model, weights)
    # before loading: torch tells of differences in a traceback
    raise_all(
        f"{path} does not fit the data or its own flags:", differences(model.state_dict(), renamed)
    )
    model.load_state_dict(renamed)
    return model, renamed


def _current_names(model: BaseFairseqModel, weights: Weights) -> Weights:
    """Return weights under the names of today's fairseq, without what 0.12.2 stored twice.

    Raises:
        AdminError: if they lack some that the flags name.
    """
    renamed = dict(weights)
    try:
        model.upgrade_state_dict(renamed)
    except Exception as error:
        # fairseq's, by two tests that an adaptive softmax's weights are there
        if not isinstance(error, AssertionError) and "no longer supported" not in str(error):
            raise
        raise AdminError(
            "the checkpoint lacks weights of the output layer that its flags name"
        ) from None
    for name in list(renamed):
        if name.rpartition(".")[2] in FASTPATH_COPIES:
            del renamed[name]
    return renamed


def construct(args: Namespace, task: Any) -> BaseFairseqModel:
    """Build the model that flags describe.

    Raises:
        AdminError: if fairseq refuses the flags, or a user's class cannot be built or has layers of
            its own.
    """
    builder = _model_class(args.arch, f"--arch {args.arch}")
    try:
        model = builder.build_model(args, task)
    # it is a RuntimeError, which the last clause would take
    except AdminError:
        raise
    except (ValueError, AssertionError) as error:  # how fairseq refuses flags
        raise AdminError(f"the model cannot be built: {error}") from None
    except Exception as error:
        if builder is AdminTransformerModel:
            raise  # a fault of ours or of fairseq's: to be seen whole
        name = f"{builder.__module__}.{builder.__name__}"
        raise AdminError(
            f"--arch {args.arch}: its class {name} cannot be built: {type(error).__name__}: {error}"
        ) from error
    _check_layers(model, args.arch)
    return model


def check_architecture(arch: str, what: str) -> None:
    """Refuse what is not a Transformer with fairseq's layers.

    Args:
        arch: the word of ``--arch``.
        what: how a message calls it.

    Raises:
        AdminError: if it is unknown, or has other layers.
    """
    _model_class(arch, what)


def _model_class(arch: str, what: str) -> type[AdminTransformerModel]:
    """Return the class that builds an architecture in our layers.

    These are the stock ``transformer`` architectures, ours, and those of classes derived from ours.
    """
    found = ARCH_MODEL_REGISTRY.get(arch)
    if found is None:
        raise AdminError(
            f"{what}: no such architecture is registered; if it is of a user-dir of your own, name "
            "that with --user-dir"
        )
    # stock weights fit: with --init-type default our layers have the same names and no more
    if found is TransformerModel:
        return AdminTransformerModel
    if not issubclass(found, AdminTransformerModel):
        raise AdminError(
            f"{what}: it is a {found.__module__}.{found.__name__}; the residual sites are known "
            "only of fairseq's transformer and of admin_transformer architectures, and of classes "
            "derived from AdminTransformerModel"
        )
    return found


def _check_layers(model: BaseFairseqModel, arch: str) -> None:
    """Refuse layers whose residual connections are not our sites: the message names the first."""
    for stack in ("encoder", "decoder"):
        for number, layer in enumerate(getattr(getattr(model, stack, None), "layers", ())):
            if not isinstance(layer, _OUR_LAYERS):
                kind = f"{type(layer).__module__}.{type(layer).__qualname__}"
                raise AdminError(
                    f"--arch {arch}: {stack}.layers.{number} is a {kind}, whose residual "
                    "connections are not known here; layers must be AdminEncoderLayer and "
                    "AdminDecoderLayer, or derived from them"
                )
