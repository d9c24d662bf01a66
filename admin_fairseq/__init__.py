"""Admin for fairseq: deep Post-LN Transformers that train.

Importing the package, as ``fairseq-train --user-dir admin_fairseq`` does, registers the
``admin_transformer`` architectures and the ``radam`` optimizer, and works around what today's torch
and numpy break in fairseq (:func:`register`). Only in the process of our own command,
``admin-fairseq``, it waits until a subcommand needs the plugin: a profile is shown without
importing torch.

The names below are the API, described in docs/python.md; each is imported when it is first used.

Read the modules in this order:

1. ``residual``      the equations, ``b * f(x) + s * x``, as modules
2. ``sites``         what a residual site is, and finding them
3. ``init_types``    what ``--init-type`` makes of them: Admin, and what it is compared with;
   ``starting``      the equation that each method's sites start with
4. ``layers``        which residual sites a layer has, and in which order
5. ``model``         the architectures: building a model, and nothing else; ``stacks``: encoder and
   decoder; ``fused_layers``: ``--fused-layers`` (``fused_attention``, ``fused_dropout``)
6. ``options``       the flags; ``rules``: the combinations that are refused
7. ``profile``       measuring omega, its file, and filling a model
8. ``training``      what ``--init-type`` does in fairseq-train; ``trace``: ``--trace-interval``;
   ``preemption``: a training that is told to stop saves first
9. ``optim``         RAdam; ``adam``: fairseq's Adam; both over lists (``multi_tensor``,
   ``half_copies``); ``criterion``: the loss in chunks (``fused_loss``);
   ``cpu_amp``: ``--amp`` on a CPU, in ``bfloat16``
10. ``compat``       workarounds for fairseq on today's Python, each feature-tested
11. ``checkpoints``  verifying, reading, writing, rebuilding and averaging them
12. ``deploy``       a trained model as a stock Transformer, and for CTranslate2
13. ``analysis``     ``admin-fairseq analyze``
14. ``cli``          the ``admin-fairseq`` command
15. ``experiments``  recipes, data, runs, results, reports

Beside these: ``errors`` (mistakes without tracebacks), ``files`` (whole or not at all), ``literal``
(text that is a value), ``weights`` (state dicts compared), ``plots``, ``logs`` (reading fairseq's
output), ``user_dir`` (a user's own), ``program`` (which program this is), ``needs`` (is there a
fairseq?) and ``moved`` (old import paths). Light, which is without torch and fairseq, are ``cli``,
``closed_forms``, ``errors``, ``files``, ``init_types``, ``literal``, ``logs``, ``moved``,
``needs``, ``plots``, ``program``, ``sites``, ``user_dir``, ``version``, ``experiments`` and of
``profile`` what its map says.
"""

import importlib
import sys
from typing import TYPE_CHECKING, Any

from .moved import MOVED, keep_old_paths
from .program import is_fairseq_command, is_own_command
from .version import __version__

if TYPE_CHECKING:
    from .analysis.dependency import dependency
    from .analysis.output_change import output_change
    from .deploy.fold import fold, fold_state
    from .errors import AdminError
    from .layers import AdminDecoderLayer, AdminEncoderLayer
    from .model import AdminTransformerDecoder, AdminTransformerEncoder, AdminTransformerModel
    from .profile.data import Profile, SiteProfile
    from .profile.file import load as load_profile
    from .profile.file import save as save_profile
    from .profile.fill import apply_profile
    from .profile.measure import profile_omega
    from .residual import OmegaResidual
    from .sites import named_sites

__all__ = [
    "AdminDecoderLayer",
    "AdminEncoderLayer",
    "AdminError",
    "AdminTransformerDecoder",
    "AdminTransformerEncoder",
    "AdminTransformerModel",
    "OmegaResidual",
    "Profile",
    "SiteProfile",
    "__version__",
    "apply_profile",
    "dependency",
    "fold",
    "fold_state",
    "load_profile",
    "named_sites",
    "output_change",
    "profile_omega",
    "register",
    "save_profile",
]

# the API's names -> the module that has them, and their name there
_API = {
    "AdminDecoderLayer": ("layers", "AdminDecoderLayer"),
    "AdminEncoderLayer": ("layers", "AdminEncoderLayer"),
    "AdminError": ("errors", "AdminError"),
    "AdminTransformerDecoder": ("model", "AdminTransformerDecoder"),
    "AdminTransformerEncoder": ("model", "AdminTransformerEncoder"),
    "AdminTransformerModel": ("model", "AdminTransformerModel"),
    "OmegaResidual": ("residual", "OmegaResidual"),
    "Profile": ("profile.data", "Profile"),
    "SiteProfile": ("profile.data", "SiteProfile"),
    "apply_profile": ("profile.fill", "apply_profile"),
    "dependency": ("analysis.dependency", "dependency"),
    "fold": ("deploy.fold", "fold"),
    "fold_state": ("deploy.fold", "fold_state"),
    "load_profile": ("profile.file", "load"),
    "named_sites": ("sites", "named_sites"),
    "output_change": ("analysis.output_change", "output_change"),
    "profile_omega": ("profile.measure", "profile_omega"),
    "save_profile": ("profile.file", "save"),
}


def register() -> None:
    """Register architectures and optimizer with fairseq, and patch it. Twice changes nothing.

    This is all that importing the package changes in a process, beside what importing fairseq does:

    - fairseq's registries get the ``admin_transformer`` architectures, the optimizers ``radam``,
      ``multi_tensor_adam`` and ``fused_adam``, and ``fused_label_smoothed_cross_entropy``;
    - functions of fairseq are patched, and numpy gets a name back that fairseq uses (``compat``);
    - torch's safe globals get the classes that fairseq keeps in its checkpoints;
    - fairseq's ``Trainer`` begins a training as ``--init-type`` says, with this plugin's models;
    - if its environment asks for it, fairseq-train saves when told to stop (``preemption``);
    - fairseq's warning that tensorboardX is missing is silenced;
    - ``--amp`` on a CPU trains in bfloat16, where fairseq trains in float32;
    - with optimizers of ours, fairseq's wrapper for half precision copies weights as lists;
    - data loading is stopped when the process ends, or fairseq's would wait for ever;
    - in fairseq's own commands an :class:`AdminError` ends in its message, without a traceback.

    Raises:
        NoFairseqError: if there is no fairseq, or it cannot be imported, with how to get it.
        OldTorchError: if torch is older than the plugin.
    """
    from . import errors
    from .needs import import_fairseq

    if is_fairseq_command():
        errors.install_excepthook()  # first: what is missing is told in one message, too
    import_fairseq()
    from . import compat

    compat.apply()
    from . import (  # noqa: F401
        adam,
        cpu_amp,
        criterion,
        half_copies,
        model,
        optim,
        preemption,
        training,
    )

    training.install()
    preemption.install()
    half_copies.install()
    cpu_amp.install()


def __getattr__(name: str) -> Any:
    if name in _API:
        module, attribute = _API[name]
        value = getattr(importlib.import_module(f"{__name__}.{module}"), attribute)
        # kept, so that Python asks here once a name
        globals()[name] = value
        return value
    if name in MOVED:  # after ``import admin_fairseq.profiling``
        return sys.modules[f"{__name__}.{name}"]
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


# stand-ins alone: an old path costs nothing until something is taken from it
keep_old_paths(__name__)
if not is_own_command():
    register()
