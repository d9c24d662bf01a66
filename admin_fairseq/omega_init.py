"""Profile -> model: fill every omega, by exact site names."""

import logging

import torch

from . import options, profile_file
from .errors import AdminError, raise_all
from .residual import first_sites, named_sites

logger = logging.getLogger(__name__)


@torch.no_grad()
def apply_profile(model, profile):
    """Fill each site's omega vector (C,) with the profile's scalar for it.

    Raises:
        AdminError: if the sites of model and profile differ; it lists both differences, and the
            model is untouched.
    """
    sites = named_sites(model)
    missing = [name for name in sites if name not in profile.sites]
    foreign = [name for name in profile.sites if name not in sites]
    plain = [name for name, site in sites.items() if site.omega is None]
    if missing or foreign or plain:
        raise AdminError(
            "the profile does not fit the model:"
            + _listed("in the model but not in the profile", missing)
            + _listed("in the profile but not in the model", foreign)
            + _listed("in the model, but without an omega (its --init-type is not adaptive)", plain)
        )
    for name, omega in profile.omega.items():
        sites[name].omega.fill_(omega)


def _listed(what, names):
    return "".join(f"\n  - {what}: {name}" for name in names)


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
        raise AdminError(f"{error}\n{_advice(path)}") from None
    try:
        apply_profile(model, profile)
        check_origin(profile, args)
    except AdminError as error:  # it may be the right profile of another model: leave it where it is
        raise AdminError(f"{path}: {error}\n{_advice(path + '.new')}") from None
    logger.info("omegas of %d residual sites filled from %s", len(profile.sites), path)
    return dict(profile.omega)


def _advice(path):
    command = options.command_line(
        init_type="adaptive-profiling", admin_profile=path, encoder_layerdrop=None, decoder_layerdrop=None
    )
    return f"Make the profile of this model with\n  {command}\nand name it with --admin-profile {path}"


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


@torch.no_grad()
def fill_master_weights(optimizer, model, omegas):
    """(provisional)"""
    masters = getattr(optimizer, "fp32_params", None)
    if masters is None:
        return
    values = {id(site.omega): omegas[name] for name, site in named_sites(model).items()}
    if not isinstance(masters, dict):
        for weight, master in zip(optimizer.fp16_params, masters):
            if id(weight) in values:
                master.data.fill_(values[id(weight)])
        return
    for device, master in masters.items():
        offset = 0
        for weight in optimizer.fp16_params:
            if len(masters) == 1 or weight.device.index == device:
                if id(weight) in values:
                    master.data[offset : offset + weight.numel()].fill_(values[id(weight)])
                offset += weight.numel()
