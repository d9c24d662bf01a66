"""What has to hold on a GPU, as checks: ``bash scripts/gpu_acceptance.sh`` runs and reports them.

The checks are functions of :class:`~tests.gpu.settings.Settings`; ``checks.py`` is their table. So
that they are sound on the day that a GPU is at hand, each runs on a CPU too, on small models
(``--cpu``), but for what only a GPU has. pytest runs some of them where there is one.
"""
