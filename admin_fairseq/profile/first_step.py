"""What happens at the first training step: stage 1, and ``--init-type adaptive-auto``.

Only there are the batch, the device and the precision those of the run, so that is where the
model is measured. fairseq's trainer calls ``task.train_step`` with all that is needed; the model
puts itself before that call once, and takes itself away again.
"""

import logging
import platform
from collections import OrderedDict

import fairseq
import numpy
import torch

from .. import options
from ..errors import AdminError
from ..residual import named_sites
from ..version import __version__
from . import file as profile_file
from .data import Profile, SiteProfile
from .fill import apply_profile, fill_master_weights
from .measure import profile_omega

logger = logging.getLogger(__name__)


def profile_at_first_step(model, args, task):
    """Have ``model`` profiled before the first step that ``task`` trains it with."""
    built, train_step = model, task.train_step

    def first_train_step(sample, model, criterion, optimizer, update_num, *rest, **named):
        if any(module is built for module in model.modules()):  # trainers wrap the model
            with autocast_like(optimizer, sample):
                start(built, sample, optimizer, args)
            task.train_step = train_step
        return train_step(sample, model, criterion, optimizer, update_num, *rest, **named)

    task.train_step = first_train_step


def start(model, sample, optimizer, args):
    """Profile; then either leave (stage 1) or start training with what was measured."""
    if args.init_type == "adaptive-profiling":
        if model.restored:
            raise AdminError(
                "--init-type adaptive-profiling: a checkpoint was loaded, and a profile is of fresh weights; "
                "use an empty --save-dir, and no --restore-file or --finetune-from-model"
            )
        measure(model, sample, optimizer, args)
        raise SystemExit(0)
    if model.restored:
        logger.info("omegas come from the checkpoint; nothing is profiled")
        return
    profile = measure(model, sample, optimizer, args)
    omegas = share_from_first_process(model, profile)
    fill_master_weights(optimizer, model, omegas)
    args.admin_omega = omegas


def measure(model, sample, optimizer, args):
    """Profile in the first process, write the file and log the table; None in the others.

    The first process holds the batch that would come first on one device.
    """
    if is_distributed() and torch.distributed.get_rank() != 0:
        return None
    path = options.profile_path(args)
    if not profile_file.may_replace(path):
        raise AdminError(
            f"--admin-profile {path}: is there, is no profile, and would be overwritten"
        )
    try:
        profile = profile_omega(model, sample, count_padding=args.admin_count_padding)
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        # fairseq would skip the batch and train on, with omega = 1; and other processes would wait for ever
        raise AdminError(
            "profiling: the first batch does not fit into memory; lower --max-tokens"
        ) from error
    profile.provenance = provenance(model, sample, optimizer, args)
    try:
        profile_file.save(profile, path)
    except OSError as error:
        raise AdminError(
            f"--admin-profile {path}: the profile cannot be written: {error}"
        ) from None
    logger.info("profile of the first training batch:\n%s", profile_file.table(profile))
    logger.info("profile written to %s", path)
    return profile


def is_out_of_memory(error):
    """Whether torch says so, of a GPU's memory or of the machine's."""
    return any(
        words in str(error)
        for words in ("out of memory", "not enough memory", "can't allocate memory")
    )


def provenance(model, sample, optimizer, args):
    """Return what a reader needs to judge a profile, and to make it again."""
    net_input = sample["net_input"]
    facts = OrderedDict()
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
    facts["precision"] = (
        "amp" if is_amp(optimizer) else str(next(model.parameters()).dtype).replace("torch.", "")
    )
    facts["command"] = options.command_line()
    return facts


def is_amp(optimizer):
    """Whether the run is one with ``--amp``."""
    return type(optimizer).__name__ == "AMPOptimizer"


def autocast_like(optimizer, sample):
    """Return the context that fairseq runs this optimizer's forward pass in (``--amp``)."""
    device = sample["net_input"]["src_tokens"].device.type
    return torch.autocast(device, enabled=is_amp(optimizer) and device == "cuda")


def is_distributed():
    return torch.distributed.is_available() and torch.distributed.is_initialized()


def share_from_first_process(model, profile):
    """Give every process the omegas that the first one measured; returns ``{site: omega}``, as they were measured."""
    names = list(named_sites(model))
    if is_distributed():
        values = list(profile.omega.values()) if profile is not None else [0.0] * len(names)
        shared = torch.tensor(values, dtype=torch.float64, device=next(model.parameters()).device)
        torch.distributed.broadcast(shared, src=0)
        omegas = dict(zip(names, shared.tolist()))
    else:
        omegas = dict(profile.omega)
    apply_profile(model, Profile(OrderedDict((name, SiteProfile(omegas[name])) for name in names)))
    return omegas
