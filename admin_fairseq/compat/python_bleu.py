"""The counts of ``--scoring bleu`` as ``fairseq.libbleu`` makes them, where that is not compiled.

fairseq calls it through ctypes, so arguments are ctypes' objects here too.
"""

import ctypes
from collections import Counter
from collections.abc import Sequence
from typing import Any

_ORDERS = (1, 2, 3, 4)


class PythonLibbleu:
    """What fairseq's ``Scorer`` has as its ``C``; ``stat`` is a ``byref`` of its ``BleuStat``."""

    def bleu_zero_init(self, stat: Any) -> None:
        """Set every count to 0."""
        counts = stat._obj
        for name, _ in counts._fields_:
            setattr(counts, name, 0)

    def bleu_one_init(self, stat: Any) -> None:
        """Set every count to 0, but those of two and more words to 1."""
        self.bleu_zero_init(stat)
        for order in _ORDERS[1:]:
            setattr(stat._obj, f"match{order}", 1)
            setattr(stat._obj, f"count{order}", 1)

    def bleu_add(
        self,
        stat: Any,
        reference_length: ctypes.c_size_t,
        reference: ctypes.c_void_p,
        prediction_length: ctypes.c_size_t,
        prediction: ctypes.c_void_p,
        pad: ctypes.c_int,
        eos: ctypes.c_int,
    ) -> None:
        """Add the counts of a pair of sentences, which are arrays of C's int."""
        ends = (pad.value, eos.value)
        expected = _trimmed(_read(reference_length, reference), *ends)
        words = _trimmed(_read(prediction_length, prediction), *ends)
        counts = stat._obj
        counts.reflen += len(expected)
        counts.predlen += len(words)
        for order in _ORDERS:
            had = _ngrams(words, order)
            both = had & _ngrams(expected, order)
            _increase(counts, f"count{order}", sum(had.values()))
            _increase(counts, f"match{order}", sum(both.values()))


def _increase(counts: Any, name: str, number: int) -> None:
    setattr(counts, name, getattr(counts, name) + number)


def _read(length: ctypes.c_size_t, address: ctypes.c_void_p) -> list[int]:
    if not length.value or not address.value:
        return []
    return list((ctypes.c_int * length.value).from_address(address.value))


def _trimmed(words: list[int], pad: int, eos: int) -> list[int]:
    """Return a sentence without padding on its left, nor padding and ends on its right.

    Of a sentence that has nothing else the first one stays, as in fairseq.
    """
    start, end = 0, len(words)
    while start < end and words[start] == pad:
        start += 1
    while end > start + 1 and words[end - 1] in (pad, eos):
        end -= 1
    return words[start:end]


def _ngrams(words: Sequence[int], order: int) -> "Counter[tuple[int, ...]]":
    return Counter(zip(*[words[first:] for first in range(order)]))
