"""A subset in several parts: ``train``, ``train1``, ``train2``; ``--combine-val``."""

import functools
from collections.abc import Sequence
from typing import Any, Union

from .marks import is_mended, mark


def join_parts_without_upsampling() -> None:
    """Have ``--upsample-primary -1`` mean one copy.

    -1 is the default value, fairseq's word for "off", but is used as a number of copies: the first
    part then has minus its length, and training ends in a traceback.
    """
    from fairseq.data import ConcatDataset

    original = ConcatDataset.__init__
    if is_mended(original):
        return

    @functools.wraps(original)
    def __init__(self: Any, datasets: Any, sample_ratios: Union[int, Sequence[int]] = 1) -> None:
        if not isinstance(sample_ratios, int):
            sample_ratios = [1 if ratio == -1 else ratio for ratio in sample_ratios]
        original(self, datasets, sample_ratios)

    ConcatDataset.__init__ = mark(__init__)
