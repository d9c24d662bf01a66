"""Profile -> model: fill every omega, by exact site names."""

import glob
import logging
import os
import shlex

import torch

from .. import options
from ..errors import AdminError, raise_all
from ..residual import named_sites
from . import checks as profile_checks
from . import file as profile_file
from .data import first_sites

logger = logging.getLogger(__name__)
NAMED = 3  # sites that a message names of each kind


@torch.no_grad()
def apply_profile(model, profile):
    """Fill each site's omega vector (C,) with the profile's scalar for it.

    Raises:
        AdminError: if the sites of model and profile differ, or an omega is none that a model has; it
            says all that differs, and the model is untouched.
    """
    sites = named_sites(model)
    missing = [name for name in sites if name not in profile.sites]
    foreign = [name for name in profile.sites if name not in sites]
    plain = [name for name, site in sites.items() if site.omega is None]
    if missing or foreign or plain:
        raise AdminError(
            f"the profile does not fit the model:{_depths(profile.sites, sites)}"
            + _listed("in the model but not in the profile", missing)
            + _listed("in the profile but not in the model", foreign)
            + _listed("in the model, but without an omega (its --init-type is not adaptive)", plain)
        )
    problems = profile_checks.out_of_range(profile.sites)
    raise_all("no model has the numbers of this profile:", profile_checks.first_of(problems))
    for name, omega in profile.omega.items():
        sites[name].omega.fill_(float(omega))


def _depths(ours, theirs):
    """Return how many layers a profile and a model have, as text; nothing if they have as many."""
    depths = []
    for names in (ours, theirs):
        layers = {tuple(name.split(".")[:3]) for name in names}
        depths.append(
            "-".join(
                str(sum(layer[0] == stack for layer in layers)) for stack in ("encoder", "decoder")
            )
        )
    if depths[0] == depths[1]:
        return ""
    return f" {depths[0]} against {depths[1]} (layers of the profile against layers of the model)"


def _listed(what, names):
    lines = [f"\n  - {what}: {name}" for name in names[:NAMED]]
    more = len(names) - NAMED
    return "".join(lines) + (f"\n    ... and {more} more" if more > 0 else "")


@torch.no_grad()
def fill_master_weights(optimizer, model, omegas):
    """Write unrounded omegas into the float32 copies of the weights that fairseq trains (``--fp16``, ``--bf16``).

    fairseq makes the copies from the model's weights, after half precision has rounded them (by up to
    0.4 % in bfloat16), and writes them over the model's weights after every update.

    Args:
        optimizer: fairseq's optimizer. Without such copies (float32, amp, memory-efficient) nothing is done.
        model: the model that it trains, not wrapped.
        omegas: ``{site: float}``. A frozen omega is in no optimizer, and stays as it is.
    """
    values = {
        id(site.omega): omegas[name] for name, site in named_sites(model).items() if name in omegas
    }
    for weight, master in master_weights(optimizer):
        if id(weight) in values:
            master.fill_(values[id(weight)])


def master_weights(optimizer):
    """Return ``[(weight of the model, its float32 copy)]`` of fairseq's ``FP16Optimizer``; else an empty list.

    The copies are slices of one flat tensor per device, or with ``--fp16-no-flatten-grads`` and
    ``--bf16`` tensors of their own; both are written through.
    """
    masters = getattr(optimizer, "fp32_params", None)
    if masters is None:
        return []
    if not isinstance(masters, dict):
        return [(weight, master.data) for weight, master in zip(optimizer.fp16_params, masters)]
    pairs = []
    for device, flat in masters.items():
        # one tensor holds all weights wherever they are; several (pipelines) those of their device
        weights = [
            w for w in optimizer.fp16_params if len(masters) == 1 or w.device.index == device
        ]
        pairs += zip(weights, flat.data.split([weight.numel() for weight in weights]))
    return pairs


def freeze_first(model):
    """Keep the first omega of every stack at 1 (``--freeze-first-omega``)."""
    sites = named_sites(model)
    for name in first_sites(sites):
        if sites[name].omega is not None:
            sites[name].omega.requires_grad_(False)


def start(model, args):
    """``--init-type adaptive``: fill the omegas from the profile, unless a checkpoint brings them.

    Returns:
        ``{site: omega}``, empty if a checkpoint brings them. fairseq stores it with the arguments
        in the run's checkpoints, as ``admin_omega`` (a resumed run stores the empty one), and where
        it is there no profile is looked for: generation, averaging and ensembles need none.

    Raises:
        AdminError: if the profile is missing, damaged or another model's; it names the file, every
            difference, and the command that makes the right one.
    """
    if getattr(args, "admin_omega", None) is not None:
        return args.admin_omega
    restored = options.checkpoint_to_restore(args)
    if restored:
        logger.info("omegas come from the checkpoint %s; no profile is read", restored)
        return {}
    path = options.profile_path(args)
    try:
        profile = profile_file.load(path)
    except AdminError as error:
        others = "" if os.path.exists(path) else _other_seeds(args)
        raise AdminError(f"{error}\n{others}{_advice(path)}") from None
    try:
        apply_profile(model, profile)
        check_origin(profile, args)
    except (
        AdminError
    ) as error:  # it may be the right profile of another model: leave it where it is
        raise AdminError(f"{path}: {error}\n{_advice(path + '.new')}") from None
    logger.info("omegas of %d residual sites filled from %s", len(profile.sites), path)
    return dict(profile.omega)


def _advice(path):
    command = options.command_line(
        init_type="adaptive-profiling",
        admin_profile=path,
        encoder_layerdrop=None,
        decoder_layerdrop=None,
    )
    return (
        f"Make the profile of this model with\n  {command}\nand name it with --admin-profile {path}"
    )


def _other_seeds(args):
    """Return how to train from another seed's profile: one that lies in a folder beside --save-dir, if any."""
    folder = glob.escape(getattr(args, "save_dir", None) or ".")
    beside = os.path.normpath(os.path.join(folder, os.pardir, "*", "admin.profile"))
    found = [
        name for name in sorted(glob.glob(beside)) if os.path.isfile(name) and name.isprintable()
    ]
    found = [f"--admin-profile {shlex.quote(name)}" for name in found]
    if not found:
        return "One profile serves several seeds: if a run of another seed has made it, name it with --admin-profile.\n"
    lines = [
        "One profile serves several seeds. Beside this run lie these; name the one of this model:"
    ]
    return "\n  ".join(lines + profile_checks.first_of(found, NAMED)) + "\n"


def check_origin(profile, args):
    """Refuse the profile of another model whose sites have the same names.

    Two-column files do not say what they were measured on: for them there is nothing to compare.
    """
    problems = [
        f"{name}: {profile.provenance[name]} in the profile, {value} in the model"
        for name, value in options.describe(args).items()
        if profile.provenance.get(name, value) != value
    ]
    if args.freeze_first_omega:
        omegas = profile.omega
        problems += [
            f"{name} has omega {omegas[name]}, but --freeze-first-omega keeps it at 1"
            for name in first_sites(omegas)
            if omegas[name] != 1
        ]
    raise_all("the profile is not this model's:", problems)
