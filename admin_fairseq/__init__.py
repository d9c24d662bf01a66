"""Admin for fairseq: deep Post-LN Transformers that train.

Importing the package, as ``fairseq-train --user-dir admin_fairseq`` does, registers the
``admin_transformer`` architectures and the ``radam`` optimizer, and mends what today's torch and
numpy break in fairseq. Only in the process of our own command, ``admin-fairseq``, it waits until a
subcommand needs the plugin (:func:`register`): a profile is shown without importing torch.

Read the modules in this order:

1. ``residual``      the equations, ``b * f(x) + s * x``, as modules
2. ``sites``         what a residual site is, and finding them
3. ``init_types``    what ``--init-type`` makes of them: Admin, and what it is compared with
4. ``layers``        which residual sites a layer has, and in which order
5. ``model``         the architectures: building a model, and nothing else
6. ``options``       the flags; ``rules``: the combinations that are refused
7. ``profile``       measuring omega, its file, and filling a model
8. ``training``      what ``--init-type`` does in fairseq-train; ``trace``: what ``--trace-interval`` logs
9. ``optim``         RAdam
10. ``compat``       workarounds for fairseq on today's Python, each feature-tested
11. ``checkpoints``  verifying, reading, writing, rebuilding and averaging them
12. ``deploy``       a trained model as a stock Transformer, and for CTranslate2
13. ``analysis``     ``admin-fairseq analyze``
14. ``cli``          the ``admin-fairseq`` command
15. ``experiments``  recipes, data, runs, results, reports

Beside these: ``errors`` (mistakes without tracebacks), ``files`` (whole or not at all), ``literal`` (text that is a
value), ``weights`` (state dicts compared), ``plots`` and ``logs`` (reading fairseq's output). Light, which is without
torch and fairseq, are ``cli``, ``errors``, ``files``, ``literal``, ``logs``, ``plots``, ``version``, ``experiments``
and of ``profile`` what its map says.
"""

import sys
from pathlib import Path

from .version import __version__

__all__ = ["__version__", "register"]


def register() -> None:
    """Register architectures and optimizer with fairseq, and apply the workarounds. Twice changes nothing."""
    from . import compat

    compat.apply()
    from . import errors, model, optim, training  # noqa: F401

    errors.install_excepthook()
    training.install()


def _is_own_command() -> bool:
    """Whether this process is ``admin-fairseq`` (or ``python -m admin_fairseq``), which registers by itself."""
    program = Path(sys.argv[0])
    if program.stem == "admin-fairseq" or program.parts[-2:] == ("admin_fairseq", "__main__.py"):
        return True
    # while ``python -m`` looks for the package, the program is called -m
    return sys.argv[0] == "-m" and sys.orig_argv[-len(sys.argv)] == "admin_fairseq"


if not _is_own_command():
    register()
