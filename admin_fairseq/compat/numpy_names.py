"""Names that numpy 2 no longer has."""

import argparse

import numpy as np


def restore_numpy_names() -> None:
    """Give numpy 2 ``np.compat.long`` back, which fairseq asks for.

    So with ``--sample-break-mode eos`` and ``--num-batch-buckets``. numpy 2.4 has no
    ``percentile(interpolation=)`` either, which setup.py keeps out.
    """
    if not hasattr(np, "compat"):
        vars(np)["compat"] = argparse.Namespace(long=int)
