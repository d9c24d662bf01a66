"""What a residual site is: one record a role, and the finding of sites in a model.

A site is named by its module path, ``encoder.layers.3.ffn_residual``. The records say where the
parts around it lie in fairseq's layers; probes, folding, the profile file and the importer of the
authors' checkpoints all ask here. Neither torch nor fairseq is imported: reading a profile needs
the names alone.
"""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor, nn

    from .residual import Residual

STACKS = ("encoder", "decoder")
WHOLE_MODEL = "model"  # the stack of sites whose path names none


@dataclass(frozen=True)
class Role:
    """What a site is in its layer. All paths are within the layer.

    Attributes:
        name: the layer's attribute that the site is.
        branch: the modules with the weights of the branch f.
        readers: the linear maps that read the branch's input x, which is the site's shortcut.
            The cross-attention's keys and values read the encoder's output, and are none.
        last_map: the last linear map of the branch.
        layer_norm: the LayerNorm after the site (Post-LN) or before its branch (Pre-LN).
    """

    name: str
    branch: tuple[str, ...]
    readers: tuple[str, ...]
    last_map: str
    layer_norm: str


# in forward order
ROLES: tuple[Role, ...] = (
    Role(
        name="self_attn_residual",
        branch=("self_attn",),
        readers=("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
        last_map="self_attn.out_proj",
        layer_norm="self_attn_layer_norm",
    ),
    Role(
        name="encoder_attn_residual",
        branch=("encoder_attn",),
        readers=("encoder_attn.q_proj",),
        last_map="encoder_attn.out_proj",
        layer_norm="encoder_attn_layer_norm",
    ),
    Role(
        name="ffn_residual",
        branch=("fc1", "fc2"),
        readers=("fc1",),
        last_map="fc2",
        layer_norm="final_layer_norm",
    ),
)
SELF_ATTENTION, CROSS_ATTENTION, FEED_FORWARD = ROLES
ROLE_NAMES: tuple[str, ...] = tuple(role.name for role in ROLES)
# one spelling a number: no leading zeros, no digits of other scripts, no endless ones
SITE_PATTERN = re.compile(
    rf"({'|'.join(STACKS)})\.layers\.(0|[1-9]\d{{0,5}})\.({'|'.join(ROLE_NAMES)})", re.ASCII
)


@dataclass(frozen=True)
class SiteName:
    """A site's name, taken apart, and the full paths of what lies around it.

    Attributes:
        stack: ``encoder`` or ``decoder``.
        layer: number of its layer, from 0.
        role: what it is in its layer.
    """

    stack: str
    layer: int
    role: Role

    @classmethod
    def parse(cls, name: str) -> SiteName:
        """Take a name apart.

        Raises:
            ValueError: if it is no site's.
        """
        match = SITE_PATTERN.fullmatch(name)
        if match is None:
            raise ValueError(f"{name!r} is not the name of a residual site")
        stack, layer, role = match.groups()
        return cls(stack, int(layer), ROLES[ROLE_NAMES.index(role)])

    def __str__(self) -> str:
        return f"{self.layer_path}.{self.role.name}"

    @property
    def layer_path(self) -> str:
        """Path of its layer, ``encoder.layers.3``."""
        return f"{self.stack}.layers.{self.layer}"

    @property
    def layer_norm(self) -> str:
        """Path of its LayerNorm."""
        return f"{self.layer_path}.{self.role.layer_norm}"

    @property
    def last_map(self) -> str:
        """Path of the last linear map of its branch."""
        return f"{self.layer_path}.{self.role.last_map}"

    @property
    def readers(self) -> list[str]:
        """Paths of the linear maps that read its shortcut."""
        return [f"{self.layer_path}.{reader}" for reader in self.role.readers]


def stack_of(site_name: str) -> str:
    """Return the stack that a site accumulates in.

    A stack is the part of a model that one sum of variances runs through. It is named by the first
    part of the site's path: ``encoder`` for ``encoder.layers.3.ffn_residual``, ``layers`` for
    ``layers.0.ffn``. Sites of which that would say nothing, as in a ``nn.Sequential`` (``0.ffn``)
    or at the top of a model (``ffn``), are one stack: :data:`WHOLE_MODEL`.
    """
    first, dot, _ = site_name.partition(".")
    return first if dot and not first.isdigit() else WHOLE_MODEL


def first_sites(site_names: Iterable[str]) -> list[str]:
    """Return the first site of every stack: the ones whose omega is 1 by definition."""
    first: dict[str, str] = {}
    for name in site_names:
        first.setdefault(stack_of(name), name)
    return list(first.values())


def roles_of(stack: str, cross_attention: bool = True) -> list[Role]:
    """Return the roles in a layer of a stack, in forward order."""
    if stack == "decoder" and cross_attention:
        return list(ROLES)
    return [SELF_ATTENTION, FEED_FORWARD]


def stack_sites(args: Any, stack: str) -> list[SiteName]:
    """Return the sites that a model with these flags has in a stack, in forward order."""
    roles = roles_of(stack, cross_attention=not args.no_cross_attention)
    sites: list[SiteName] = []
    for layer in range(getattr(args, f"{stack}_layers")):
        for role in roles:
            sites.append(SiteName(stack, layer, role))
    return sites


def named_sites(model: nn.Module) -> OrderedDict[str, Residual]:
    """Return ``{module path: Residual}`` of a model, in forward order within each stack."""
    from .residual import Residual  # here, since it imports torch

    sites: OrderedDict[str, Residual] = OrderedDict()
    # named_modules follows the order of registration, which in layers is the forward order
    for name, module in model.named_modules():
        if isinstance(module, Residual):
            sites[name] = module
    return sites


def named_omegas(model: nn.Module) -> OrderedDict[str, nn.Parameter]:
    """Return ``{site: omega}``, each of shape (C,), of the sites that have one."""
    omegas: OrderedDict[str, nn.Parameter] = OrderedDict()
    for name, site in named_sites(model).items():
        if site.omega is not None:
            omegas[name] = site.omega
    return omegas


def branch_matrices(layer: nn.Module, role: Role | str) -> list[Tensor]:
    """Return the weight matrices of a site's branch: no biases, no LayerNorms.

    Args:
        layer: one of fairseq's Transformer layers.
        role: of the site, or its name.
    """
    if isinstance(role, str):
        role = ROLES[ROLE_NAMES.index(role)]
    matrices: list[Tensor] = []
    for path in role.branch:
        for weight in layer.get_submodule(path).parameters():
            if weight.dim() == 2:
                matrices.append(weight)
    return matrices
