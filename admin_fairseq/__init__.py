"""Admin for fairseq: deep Post-LN Transformers that train.

Importing the package, as ``fairseq-train --user-dir admin_fairseq`` does, registers the
``admin_transformer`` architectures and the ``radam`` optimizer, and mends what today's torch and
numpy break in fairseq. Read the modules in this order:

1. ``residual``      the equations, ``b * f(x) + s * x``, as modules
2. ``init_types``    what ``--init-type`` makes of them: Admin, and what it is compared with
3. ``layers``        which residual sites a layer has, and in which order
4. ``model``         the architectures: building a model, and nothing else
5. ``options``       the flags, and the combinations that are refused
6. ``profiling``     one forward pass over the sites -> ``Profile``
7. ``profile_file``  ``Profile`` <-> a text file that a person can read (``profile_checks``: what is refused)
8. ``omega_init``    ``Profile`` -> the model's omegas
9. ``training``      what hangs on to fairseq's trainer: ``first_step`` (stage 1 inside ``fairseq-train``, and
                     ``--init-type adaptive-auto``) and ``trace`` (what ``--trace-interval`` logs)
10. ``optim``        RAdam
11. ``compat``       mends for fairseq on today's Python, each feature-tested
12. ``checkpoints``  verifying, reading, writing and rebuilding them
13. ``fold``         omega into LayerNorms and weights: a stock Transformer with the same outputs (``stock`` builds it)
14. ``export``       folded checkpoints, compared before they are written; ``ctranslate2_export``: for serving
15. ``authors``      checkpoints of the authors' code -> ours; ``grow``: rows for the words of a larger dictionary
16. ``cli``          the ``admin-fairseq`` command, served by ``average`` and ``plots``
17. ``report``       tables of many runs, with ``results``, ``published``, ``significance`` and ``report_page``
18. ``analysis``     ``admin-fairseq analyze``: its own map is in its ``__init__``

Beside these: ``errors`` (mistakes without tracebacks), ``files`` (whole or not at all), ``literal`` (text that is a
value), ``weights`` (state dicts compared) and ``logs`` (reading fairseq's output).
"""

from .version import __version__  # noqa: F401 isort:skip

from . import compat

compat.apply()

from . import errors, model, optim, training  # noqa: E402,F401

errors.install_excepthook()
training.install()
