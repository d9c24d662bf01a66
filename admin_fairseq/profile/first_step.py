"""What happens at the first training step: stage 1, and ``--init-type adaptive-auto``.

Only there are the batch, the device and the precision those of the run, so that is where the
model is measured. fairseq's trainer calls ``task.train_step`` with all that is needed; the model
puts itself before that call once, and takes itself away again.
"""

import logging
import platform
from argparse import Namespace
from collections import OrderedDict
from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import Any, Optional

import fairseq
import numpy
import torch

from .. import bfloat16, options
from ..errors import AdminError
from ..sites import named_sites
from ..version import __version__
from . import file as profile_file
from .data import Profile, SiteProfile
from .fill import apply_profile
from .master_weights import fill_master_weights
from .measure import profile_omega
from .shape import with_shape
from .text import table

logger = logging.getLogger(__name__)

OUT_OF_MEMORY = ("out of memory", "not enough memory", "can't allocate memory")  # as torch says it


def profile_at_first_step(model: Any, args: Namespace, task: Any) -> None:
    """Have ``model`` profiled before the first step that ``task`` trains it with.

    Args:
        model: as it was built, not wrapped by a trainer.
        args: the flags that it was built from.
        task: fairseq's task, whose ``train_step`` is replaced until then.
    """
    built, train_step = model, task.train_step

    def first_train_step(
        sample: Any,
        model: Any,
        criterion: Any,
        optimizer: Any,
        update_num: int,
        *rest: Any,
        **named: Any,
    ) -> Any:
        if any(module is built for module in model.modules()):  # trainers wrap the model
            with _autocast_like(optimizer, sample):
                _measure_and_start(built, sample, optimizer, args)
            # only now: the first batch may be of another model of the task
            task.train_step = train_step
        return train_step(sample, model, criterion, optimizer, update_num, *rest, **named)

    task.train_step = first_train_step


def _measure_and_start(
    model: Any, sample: Mapping[str, Any], optimizer: Any, args: Namespace
) -> None:
    """Profile; then either leave (stage 1) or start training with what was measured."""
    if options.only_profiles(args):
        # by what was loaded, not by flags: fairseq-hydra-train tells a model of no checkpoint
        if model.restored:
            raise AdminError(
                "--init-type adaptive-profiling: a checkpoint was loaded, and a profile is of "
                "fresh weights; use an empty --save-dir, and no --restore-file or "
                "--finetune-from-model"
            )
        _measure(model, sample, optimizer, args)
        # no Exception: for those fairseq's trainer writes a crash.pt into the --save-dir
        raise SystemExit(0)
    if model.restored:
        logger.info("omegas come from the checkpoint; nothing is profiled")
        return
    profile = _measure(model, sample, optimizer, args)
    omegas = share_from_first_process(model, profile)
    fill_master_weights(optimizer, model, omegas)
    args.admin_omega = omegas


def _measure(
    model: Any, sample: Mapping[str, Any], optimizer: Any, args: Namespace
) -> Optional[Profile]:
    """Profile in the first process, write the file and log the table; None in the others.

    The first process holds the batch that would come first on one device.
    """
    # the others wait at the broadcast that follows, or end with stage 1
    if is_distributed() and torch.distributed.get_rank() != 0:
        return None
    path = options.profile_path(args)
    # not when a model is built: for generation it is built from flags that name this path too
    if not profile_file.may_replace(path):
        raise AdminError(
            f"--admin-profile {path}: this file is not a profile, and is not overwritten; "
            "name another one"
        )
    try:
        profile = profile_omega(model, sample, count_padding=args.admin_count_padding)
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        # fairseq would skip the batch and train on, with omega = 1; and other processes would wait
        # for ever
        raise AdminError(
            "profiling: the first batch does not fit into memory; lower --max-tokens"
        ) from error
    profile.provenance = _provenance(model, sample, optimizer, args)
    profile = with_shape(profile, options.omega_shape(args))
    try:
        profile_file.save(profile, path)
    except OSError as error:
        raise AdminError(
            f"--admin-profile {path}: the profile cannot be written: {error}"
        ) from None
    logger.info("profile of the first training batch:\n%s", table(profile))
    logger.info("profile written to %s", path)
    return profile


def is_out_of_memory(error: BaseException) -> bool:
    """Whether torch says so, of a GPU's memory or of the machine's."""
    # by its words: on CPUs torch raises a plain RuntimeError
    return any(words in str(error) for words in OUT_OF_MEMORY)


def _provenance(
    model: Any, sample: Mapping[str, Any], optimizer: Any, args: Namespace
) -> dict[str, str]:
    """Return what a reader needs to judge a profile, and to make it again."""
    net_input = sample["net_input"]
    precision = str(next(model.parameters()).dtype).replace("torch.", "")
    facts: dict[str, object] = OrderedDict()
    facts["admin_fairseq"] = __version__
    facts["fairseq"] = fairseq.__version__
    facts["torch"] = torch.__version__
    facts["numpy"] = numpy.__version__
    facts["python"] = platform.python_version()
    facts["architecture"] = getattr(args, "arch", "admin_transformer")
    facts["layers"] = f"{args.encoder_layers}-{args.decoder_layers}"
    facts.update(options.describe(args))
    facts["seed"] = getattr(args, "seed", None)
    facts["sentences"] = sample["nsentences"]
    facts["target tokens"] = sample["ntokens"]
    facts["source tokens"] = int(net_input["src_lengths"].sum())
    facts["padding"] = "counted" if args.admin_count_padding else "excluded"
    facts["device"] = net_input["src_tokens"].device.type
    facts["precision"] = "amp" if _is_amp(optimizer) else precision
    facts["command"] = options.command_line()
    return OrderedDict((key, str(value)) for key, value in facts.items())


def _is_amp(optimizer: Any) -> bool:
    """Whether the run is one with ``--amp``."""
    return type(optimizer).__name__ == "AMPOptimizer"


def _autocast_like(optimizer: Any, sample: Mapping[str, Any]) -> AbstractContextManager:
    """Return the context that fairseq runs this optimizer's forward pass in (``--amp``)."""
    device = sample["net_input"]["src_tokens"].device.type
    if _is_amp(optimizer) and device == "cpu":
        return bfloat16.autocast()
    # --fp16 and --bf16 change the weights' type instead, and need no context
    return torch.autocast(device, enabled=_is_amp(optimizer) and device == "cuda")


def is_distributed() -> bool:
    """Whether this is one of several processes that train one model."""
    return torch.distributed.is_available() and torch.distributed.is_initialized()


def share_from_first_process(model: Any, profile: Optional[Profile]) -> dict[str, float]:
    """Give every process the omegas that the first one measured.

    Args:
        model: is filled with them.
        profile: what the first process measured; None in the others.

    Returns:
        Site -> omega, as they were measured.
    """
    names = list(named_sites(model))
    values = [0.0] * len(names)
    if profile is not None:
        values = [profile.sites[name].omega for name in names]
    if is_distributed():
        # omegas are Python's numbers: float64 gives every process the same bits
        shared = torch.tensor(values, dtype=torch.float64, device=next(model.parameters()).device)
        torch.distributed.broadcast(shared, src=0)
        values = shared.tolist()
    omegas = dict(zip(names, values))
    sites: OrderedDict[str, SiteProfile] = OrderedDict()
    for name, omega in omegas.items():
        sites[name] = SiteProfile(omega)
    apply_profile(model, Profile(sites))
    return omegas
