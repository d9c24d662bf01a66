"""Names that later releases of numpy no longer have."""

import argparse
from typing import Any

import numpy as np

from .marks import is_mended


def restore_numpy_names() -> None:
    """Give fairseq ``np.compat.long`` and ``np.percentile(interpolation=)`` back.

    They are asked for with ``--sample-break-mode eos`` and ``--num-batch-buckets``. numpy 2 has no
    ``compat``, numpy 2.4 and later no ``interpolation``.
    """
    if not hasattr(np, "compat"):
        vars(np)["compat"] = argparse.Namespace(long=int)
    if not _has_interpolation():
        from fairseq.data import data_utils

        if not is_mended(data_utils.np):
            data_utils.np = _NumpyWithInterpolation()


def _has_interpolation() -> bool:
    try:
        np.percentile([1, 2], 50, interpolation="lower")  # type: ignore[call-overload]
    except TypeError:
        return False
    return True


class _NumpyWithInterpolation:
    """The module numpy, as ``fairseq.data.data_utils`` sees it: ``percentile`` as it was."""

    mended_by_admin_fairseq = frozenset([""])  # as compat.marks has it

    def __getattr__(self, name: str) -> Any:
        return getattr(np, name)

    @staticmethod
    def percentile(values: Any, ranks: Any, interpolation: str = "linear") -> Any:
        """Call numpy's, whose word for ``interpolation`` is ``method``."""
        return np.percentile(values, ranks, method=interpolation)  # type: ignore[call-overload]
