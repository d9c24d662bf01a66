"""Models from flags and from checkpoints, in our layers, whatever of fairseq's Transformers they are of."""

import copy
from argparse import Namespace

from fairseq.models import ARCH_CONFIG_REGISTRY, ARCH_MODEL_NAME_REGISTRY

from .. import options
from ..average import load_checkpoint
from ..errors import AdminError, raise_all
from ..init_types import is_adaptive
from ..layers import FASTPATH_COPIES
from ..model import AdminTransformerModel

ARCHITECTURES = ("transformer", "admin_transformer")


def check_architecture(arch, what):
    """Refuse what is not a Transformer with fairseq's layers."""
    if ARCH_MODEL_NAME_REGISTRY.get(arch) not in ARCHITECTURES:
        raise AdminError(
            f"{what}: analysis knows the residual sites of fairseq's transformer and admin_transformer "
            "architectures, and this is neither"
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
    args = stored_args(state, path)
    if is_adaptive(args):
        args.init_type, args.admin_omega = "adaptive", {}
    model = construct(whole(args), task)
    weights = dict(state["model"])
    model.upgrade_state_dict(weights)  # names of older releases of fairseq
    weights = {name: value for name, value in weights.items() if name.rpartition(".")[2] not in FASTPATH_COPIES}
    raise_all(f"{path} does not fit the data or its own flags:", differences(model.state_dict(), weights))
    model.load_state_dict(weights)
    return model


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
