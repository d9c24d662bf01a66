"""Profile -> model: fill every omega, by exact site names."""

from collections.abc import Iterable

import torch
from torch import nn

from ..errors import AdminError, first_of, raise_all
from ..sites import STACKS, first_sites, named_omegas, named_sites
from . import checks
from .data import Profile

NAMED = 3  # sites that a message names of each kind


@torch.no_grad()
def apply_profile(model: nn.Module, profile: Profile) -> None:
    """Fill each site's omega vector (C,) with the profile's scalar for it.

    Args:
        model: of this plugin, or any module with ``OmegaResidual`` in it.
        profile: of a model with the same sites.

    Raises:
        AdminError: if the sites of model and profile differ, or an omega is none that a model has;
            it says all that differs, and the model is untouched.
    """
    sites = named_sites(model)
    omegas = named_omegas(model)
    missing = [name for name in sites if name not in profile.sites]
    foreign = [name for name in profile.sites if name not in sites]
    plain = [name for name in sites if name not in omegas]
    # all is looked at before anything is filled
    if missing or foreign or plain:
        raise AdminError(
            f"the profile does not fit the model:{_depths(profile.sites, sites)}"
            + _listed("in the model but not in the profile", missing)
            + _listed("in the profile but not in the model", foreign)
            + _listed("in the model, but without an omega (its --init-type is not adaptive)", plain)
        )
    problems = checks.out_of_range(profile.sites)
    raise_all("no model has the numbers of this profile:", first_of(problems))
    for name, omega in profile.omega.items():
        omegas[name].fill_(float(omega))
    # of an AdminTransformerModel; omegas that are all 1 do not show that they were set
    vars(model)["omegas_seen"] = True


def freeze_first(model: nn.Module) -> None:
    """Keep the first omega of every stack at 1 (``--freeze-first-omega``)."""
    omegas = named_omegas(model)
    for name in first_sites(omegas):
        omegas[name].requires_grad_(False)


def freeze_all(model: nn.Module) -> None:
    """Keep every omega as it is (``--freeze-omega``)."""
    for omega in named_omegas(model).values():
        omega.requires_grad_(False)


def _depths(ours: Iterable[str], theirs: Iterable[str]) -> str:
    """Return how many layers a profile and a model have, as text; nothing if they have as many."""
    profile, model = _depth(ours), _depth(theirs)
    if profile == model:
        return ""
    return f" {profile} against {model} (layers of the profile against layers of the model)"


def _depth(site_names: Iterable[str]) -> str:
    layers = {tuple(name.split(".")[:3]) for name in site_names}
    counts = []
    for stack in STACKS:
        mine = [layer for layer in layers if layer[0] == stack]
        counts.append(str(len(mine)))
    return "-".join(counts)


def _listed(what: str, names: list[str]) -> str:
    lines = [f"\n  - {what}: {name}" for name in names[:NAMED]]
    more = len(names) - NAMED
    return "".join(lines) + (f"\n    ... and {more} more" if more > 0 else "")
