"""Names that numpy 2 no longer has."""

import argparse

import numpy as np


def restore_numpy_names():
    """numpy 2 has no ``np.compat``; fairseq wants ``np.compat.long`` (``--sample-break-mode eos``,

    ``--num-batch-buckets``). numpy 2.4 has no ``percentile(interpolation=)``, which setup.py keeps out.
    """
    if not hasattr(np, "compat"):
        np.compat = argparse.Namespace(long=int)
