"""Stage 2, ``--init-type adaptive``: a model's omegas from the profile that stage 1 wrote."""

import glob
import logging
import os
import shlex
from argparse import Namespace

from torch import nn

from .. import options
from ..errors import AdminError, first_of, raise_all
from ..sites import first_sites
from .data import Profile
from .file import load
from .fill import NAMED, apply_profile
from .shape import with_shape

logger = logging.getLogger(__name__)


def fill_from_file(model: nn.Module, args: Namespace) -> dict[str, float]:
    """Fill the omegas from the profile, unless a checkpoint brings them.

    Returns:
        Site -> omega, empty if a checkpoint brings them. fairseq stores it with the arguments in
        the run's checkpoints, as ``admin_omega`` (a resumed run stores the empty one), and where it
        is there no profile is looked for: generation, averaging and ensembles need none. The shape
        of omega, which the flags may leave to the profile, is then in ``args``.

    Raises:
        AdminError: if the profile is missing, damaged or another model's; it names the file, every
            difference, and the command that makes the right one.
    """
    stored = options.stored_omegas(args)
    # the flags first: a checkpoint's say what its training began with, whatever files are about
    if stored is not None:
        return stored
    restored = options.checkpoint_to_restore(args)
    if restored:
        logger.info("omegas come from the checkpoint %s; no profile is read", restored)
        return {}
    path = options.profile_path(args)
    try:
        profile = load(path)
    except AdminError as error:
        others = "" if os.path.exists(path) else _other_seeds(args)
        raise AdminError(f"{error}\n{others}{_advice(path)}") from None
    profile = with_shape(profile, options.omega_shape(args))
    try:
        apply_profile(model, profile)
        check_origin(profile, args)
    except AdminError as error:
        # it may be the right profile of another model: leave it where it is
        raise AdminError(f"{path}: {error}\n{_advice(path + '.new')}") from None
    logger.info(
        "omegas of %d residual sites filled from %s (omega shape: %s)",
        len(profile.sites),
        path,
        profile.shape,
    )
    args.omega_shape = profile.shape  # it may have been left to the profile
    return dict(profile.omega)


def check_origin(profile: Profile, args: Namespace) -> None:
    """Refuse the profile of another model whose sites have the same names.

    Two-column files do not say what they were measured on: for them there is nothing to compare.

    Raises:
        AdminError: naming every difference.
    """
    problems = []
    for name, value in options.describe(args).items():
        # files of older releases do not say all of it
        measured = profile.provenance.get(name, value)
        if measured != value:
            problems.append(f"{name}: {measured} in the profile, {value} in the model")
    if args.freeze_first_omega:
        omegas = profile.omega
        for name in first_sites(omegas):
            if omegas[name] != 1:
                way = "" if profile.shape == "recursion" else " (--omega-shape recursion has it so)"
                problems.append(
                    f"{name} has omega {omegas[name]}, but --freeze-first-omega keeps it at 1{way}"
                )
    raise_all("the profile is not this model's:", problems)


def _advice(path: str) -> str:
    command = options.command_line(
        init_type="adaptive-profiling",
        admin_profile=path,
        encoder_layerdrop=None,
        decoder_layerdrop=None,
    )
    return (
        f"Make the profile of this model with\n  {command}\nand name it with --admin-profile {path}"
    )


def _other_seeds(args: Namespace) -> str:
    """Return how to train from another seed's profile, in a folder beside --save-dir, if any."""
    folder = glob.escape(getattr(args, "save_dir", None) or ".")
    beside = os.path.normpath(os.path.join(folder, os.pardir, "*", "admin.profile"))
    found = []
    for name in sorted(glob.glob(beside)):
        if os.path.isfile(name) and name.isprintable():
            found.append(f"--admin-profile {shlex.quote(name)}")
    if not found:
        return (
            "One profile serves several seeds: "
            "if a run of another seed has made it, name it with --admin-profile.\n"
        )
    heading = (
        "One profile serves several seeds. Beside this run are these; name the one of this model:"
    )
    return "\n  ".join([heading, *first_of(found, NAMED)]) + "\n"
