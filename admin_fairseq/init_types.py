"""The methods, one record each: how residual sites scale, and how their branches' weights start.

Each is a choice of the scales s and b in ``b * f(x) + s * x`` (see ``residual``) and of the
branches' first weights. N and M are the depths of encoder and decoder, n the number of residual
sites in a stack (2N in the encoder, 3M in the decoder).

    default         b = s = 1: fairseq's Post-LN
    pre-ln          b = s = 1: fairseq's Pre-LN, which is default with both normalize-before flags
    adaptive        b = 1, s = omega, learnable; omega from a profile (Admin, arXiv 2004.08249)
    adaptive-flat   the same, with one omega for all sites of a stack (``profile.shape``)
    analytic        b = 1, s = omega, learnable or constant, from n alone (admin-torch)
    deepnet         b = 1, s = alpha, constant; branches start smaller by beta (arXiv 2203.00555)
    rezero          s = 1, b = one learnable scalar a layer that starts at 0; no LayerNorm
                    (arXiv 2003.04887)
    rezero_postln   the same with the LayerNorms of Post-LN
    looklinear      b = s = 1; the feed-forward branch starts as a linear map (arXiv 1702.08591)

A new method is one record here, and its equation in ``starting``. fairseq-train, our own commands,
results and figures take their words from these records. No torch, no fairseq.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from .closed_forms import analytic_scale, deepnet_scale
from .errors import AdminError

OMEGA_SHAPES = ("recursion", "flat")
POST_LN = {"encoder_normalize_before": False, "decoder_normalize_before": False}
PRE_LN = {"encoder_normalize_before": True, "decoder_normalize_before": True}


# compared and hashed as itself: dictionaries among its fields have no hash
@dataclass(frozen=True, eq=False)
class Method:
    """What the plugin knows of a method, beside its equation.

    Attributes:
        name: its word in checkpoints, results and recipes.
        label: what tables and figures call it.
        flags: the model flags that it stands for, as fairseq stores them.
        aliases: other words for it, wherever a method is named.
        measuring: words of fairseq-train's ``--init-type`` for this method, with which the
            omegas are measured on the first training batch.
        needs_profile: whether its omegas come from a profile.
        stores: what a checkpoint holds for its sites, ``omega``, ``alpha`` or ``resweight`` -> the
            flag with which it does (none, if it always does).
        closed_form: the scale s that all sites of a stack start with, from the flags of a model and
            the stack; None where there is no formula.
        has_layer_norms: whether a LayerNorm precedes or follows every site.
        reads: flags of the plugin that only this method reads.
        refuses: what it cannot be combined with: keys of ``rules.REASONS``.
    """

    name: str
    label: str
    flags: Mapping[str, Any]
    aliases: tuple[str, ...] = ()
    measuring: tuple[str, ...] = ()
    needs_profile: bool = False
    stores: Mapping[str, str] = field(default_factory=dict)
    closed_form: Callable[[Any, str], float] | None = None
    has_layer_norms: bool = True
    reads: tuple[str, ...] = ()
    refuses: tuple[str, ...] = ()

    @property
    def words(self) -> tuple[str, ...]:
        """All words for it that fairseq-train's ``--init-type`` takes."""
        return (self.name, *self.aliases, *self.measuring)

    @property
    def train_flags(self) -> list[str]:
        """The flags of fairseq-train that it stands for, as words of a command."""
        words: list[str] = []
        for name, value in self.flags.items():
            if value is not False:
                words.append("--" + name.replace("_", "-"))
            if isinstance(value, str):
                words.append(value)
        return words


# in the order in which help, tables and legends have them
METHODS: tuple[Method, ...] = (
    Method(
        name="default",
        aliases=("post-ln",),
        label="Post-LN",
        flags={"init_type": "default", **POST_LN},
    ),
    Method(
        name="pre-ln",
        label="Pre-LN",
        flags={"init_type": "default", **PRE_LN},
    ),
    Method(
        name="adaptive",
        aliases=("admin",),
        measuring=("adaptive-profiling", "adaptive-auto"),
        label="Admin",
        flags={"init_type": "adaptive", **POST_LN},
        needs_profile=True,
        stores={"omega": ""},
        reads=(
            "admin_profile",
            "omega_shape",
            "freeze_first_omega",
            "freeze_omega",
            "admin_count_padding",
        ),
        refuses=("base_layers", "flat_shards", "normalize_before"),
    ),
    Method(
        name="adaptive-flat",
        aliases=("admin-flat",),
        label="Admin, flat",
        flags={"init_type": "adaptive", "omega_shape": "flat", **POST_LN},
        needs_profile=True,
        stores={"omega": ""},
        reads=("admin_profile", "omega_shape", "freeze_omega", "admin_count_padding"),
        refuses=("base_layers", "flat_shards", "normalize_before", "first_omega"),
    ),
    Method(
        name="analytic",
        label="analytic",
        flags={"init_type": "analytic", **POST_LN},
        stores={"omega": "", "alpha": "--analytic-constant"},
        closed_form=analytic_scale,
        reads=("analytic_output_change", "analytic_constant"),
        # its omegas are there when layers are built: flat shards have nothing to fill
        refuses=("base_layers", "normalize_before"),
    ),
    Method(
        name="deepnet",
        label="DeepNet",
        flags={"init_type": "deepnet", **POST_LN},
        stores={"alpha": ""},
        closed_form=deepnet_scale,
        refuses=("base_layers", "empty_stacks", "normalize_before"),
    ),
    Method(
        name="rezero",
        label="ReZero",
        flags={"init_type": "rezero", **POST_LN},
        stores={"resweight": ""},
        has_layer_norms=False,
        refuses=("base_layers", "flat_shards", "normalize_before"),
    ),
    Method(
        # an underscore, since checkpoints store it so; the alias is spelled as a flag
        name="rezero_postln",
        aliases=("rezero-postln",),
        label="ReZero Post-LN",
        flags={"init_type": "rezero_postln", **POST_LN},
        stores={"resweight": ""},
        refuses=("base_layers", "flat_shards", "normalize_before"),
    ),
    Method(
        name="looklinear",
        aliases=("looks-linear",),
        label="looks-linear",
        flags={"init_type": "looklinear", **POST_LN},
        refuses=("base_layers", "unmirrored_branches"),
    ),
)


def find_method(word: str) -> Method:
    """Return the method that a name or an alias stands for.

    Raises:
        AdminError: listing the words, if it is none.
    """
    word = str(word)  # fairseq hands over members of its enumerations
    for method in METHODS:
        if word in method.words:
            return method
    known = [" or ".join((method.name, *method.aliases)) for method in METHODS]
    raise AdminError(f"--init-type {word}: choose from {', '.join(known)}")


def method_of(cfg: Any) -> Method:
    """Return the method of a model's flags.

    With ``default`` a normalize-before flag says which, and with ``adaptive`` the shape of omega.

    Args:
        cfg: fairseq's ``TransformerConfig`` or its Namespace of flags; ``default`` where it says
            nothing of an init type.

    Raises:
        AdminError: if its init type is none.
    """
    method = find_method(getattr(cfg, "init_type", "default"))
    if method.flags["init_type"] == "adaptive":
        shape = getattr(cfg, "omega_shape", None)
        return find_method("adaptive-flat") if str(shape) == "flat" else method
    # of default alone do the normalize-before flags make two methods
    if method.flags["init_type"] != "default":
        return method
    stacks = ("encoder", "decoder")
    pre_ln = any(getattr(cfg, f"{stack}_normalize_before", False) for stack in stacks)
    return find_method("pre-ln") if pre_ln else method


def measures(cfg: Any) -> bool:
    """Whether fairseq-train measures the omegas of a model with these flags on its first batch."""
    init_type = str(getattr(cfg, "init_type", "default"))
    return init_type in find_method(init_type).measuring


def measuring_flags(method: Method) -> dict[str, Any]:
    """Return the flags of a method with which omegas are measured, where it needs a profile."""
    flags = dict(method.flags)
    if method.needs_profile:
        flags["init_type"] = find_method(flags["init_type"]).measuring[0]
    return flags


def init_type_words() -> tuple[str, ...]:
    """Return what fairseq-train's ``--init-type`` takes, names before their aliases."""
    words: list[str] = []
    for method in METHODS:
        words += method.words
    return tuple(words)


def canonical_flags(cfg: Any) -> dict[str, Any]:
    """Return the flags that fairseq stores in place of an alias of ``--init-type``.

    Empty where the init type is stored as it is.
    """
    word = str(getattr(cfg, "init_type", "default"))
    method = find_method(word)
    stored = str(method.flags["init_type"])
    # a measuring word is no alias: with it a training reads no profile
    if word == stored or word in method.measuring:
        return {}
    # two methods are stored as one word: the flags that tell them apart are stored too
    if stored == "default":
        return dict(method.flags)
    changed = {"init_type": stored}
    if "omega_shape" in method.flags:
        changed["omega_shape"] = method.flags["omega_shape"]
    return changed


# what a state dict may hold for its sites
SCALES = ("omega", "alpha", "resweight")


def methods_that_store(scale: str) -> str:
    """Return the init types whose checkpoints hold ``scale``, as a message names them.

    Args:
        scale: one of :data:`SCALES`, or the empty string for methods that store none. Those that
            do so only with a flag come last.
    """
    always: list[str] = []
    with_a_flag: list[str] = []
    for method in METHODS:
        if method.name != method.flags["init_type"]:
            continue  # pre-ln is stored as default, adaptive-flat as adaptive
        # a method that stores nothing is asked for by the empty name
        stores = method.stores or {"": ""}
        if scale not in stores:
            continue
        if stores[scale]:
            with_a_flag.append(f"{method.name} {stores[scale]}")
        else:
            always.append(method.name)
    return ", or ".join(always + with_a_flag)


def closed_form(cfg: Any, stack: str) -> float:
    """Return the scale that all sites of a stack start with by formula."""
    scale = method_of(cfg).closed_form
    if scale is None:
        raise AdminError(f"--init-type {cfg.init_type} has no formula for its scales")
    return scale(cfg, stack)
