"""A subset in several parts: ``train``, ``train1``, ``train2``; ``--combine-val``."""

import functools

from .marks import is_mended, mark


def join_parts_without_upsampling():
    """``--upsample-primary`` is -1 by default, fairseq's word for "off", and is taken for a number of copies.

    The first part then has minus its length, and training ends in a traceback. Here -1 is one copy.
    """
    from fairseq.data import ConcatDataset

    original = ConcatDataset.__init__
    if is_mended(original):
        return

    @functools.wraps(original)
    def __init__(self, datasets, sample_ratios=1):
        if not isinstance(sample_ratios, int):
            sample_ratios = [1 if ratio == -1 else ratio for ratio in sample_ratios]
        original(self, datasets, sample_ratios)

    ConcatDataset.__init__ = mark(__init__)
