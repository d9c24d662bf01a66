"""Batches as ``fairseq.data.data_utils_fast`` makes them, where that has not been compiled.

The names and arguments are fairseq's. A batch is a run of consecutive indices; what grows is its
*size*, the number of its sentences, times its *width*, the tokens of the longest one.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

# sentences whose longest one is known beforehand: a step of the search for a batch's end
_BLOCK = 16


def batch_by_size_vec(
    indices: np.ndarray,
    num_tokens_vec: np.ndarray,
    max_tokens: int,
    max_sentences: int,
    bsz_mult: int,
) -> list[np.ndarray]:
    """Split indices into batches.

    Args:
        indices: N integers.
        num_tokens_vec: the N sentences' numbers of tokens.
        max_tokens: at most so many in a batch, padding included; no limit if not positive.
        max_sentences: at most so many in a batch; no limit if not positive.
        bsz_mult: a batch is smaller than this, or its multiple, wherever that can be had.

    Returns:
        Views of ``indices``.

    Raises:
        AssertionError: if a sentence alone has more than ``max_tokens``.
    """
    lengths = np.asarray(num_tokens_vec, dtype=np.int64)
    if len(indices) == 0:
        return []
    if 0 < max_tokens < lengths.max():
        raise AssertionError(f"a sentence is longer than max_tokens={max_tokens}")
    search = _Search(lengths, max_tokens, max_sentences)
    return np.split(indices, _starts(search, bsz_mult))


class _Search:
    """Looks for the sentence that is too much for a batch."""

    def __init__(self, lengths: np.ndarray, max_tokens: int, max_sentences: int) -> None:
        self.count = len(lengths)
        self.max_tokens = max_tokens if max_tokens > 0 else np.iinfo(np.int64).max
        self.max_sentences = max_sentences if max_sentences > 0 else self.count
        self.lengths = np.ascontiguousarray(lengths).data  # faster than an array's elements
        blocks = range(0, self.count, _BLOCK)
        self.widths = np.maximum.reduceat(lengths, blocks).tolist()

    def first_too_many(self, start: int) -> int:
        """Return the first position that a batch from ``start`` on has no room for, or the end."""
        lengths, widths, max_tokens = self.lengths, self.widths, self.max_tokens
        last = min(self.count, start + self.max_sentences)
        width, position = 0, start
        while position < last:
            if position % _BLOCK == 0 and position + _BLOCK <= last:
                wider = max(width, widths[position // _BLOCK])
                if wider * (position + _BLOCK - start) <= max_tokens:
                    width = wider
                    position += _BLOCK
                    continue
            for here in range(position, min(last, position - position % _BLOCK + _BLOCK)):
                if lengths[here] > width:
                    width = lengths[here]
                if width * (here + 1 - start) > max_tokens:
                    return here
            position = here + 1
        return last


def _starts(search: _Search, multiple: int) -> list[int]:
    """Return where batches start, but for the first one, as fairseq decides it.

    What is over when a batch has been cut to a multiple starts the next one, which takes the
    sentence that was too many as well, though it is no multiple then.
    """
    starts = []
    start, least = 0, 1  # a batch begins with ``least`` sentences, whatever their number
    while True:
        position = search.first_too_many(start)
        size = position - start
        if size >= multiple:
            size -= size % multiple
        end = start + max(size, least)
        if position == search.count:
            if end < search.count:
                starts.append(end)
            return starts
        starts.append(end)
        if max(search.lengths[end : position + 1]) * (position + 1 - end) > search.max_tokens:
            starts.append(position)
            end = position
        start, least = end, position + 1 - end


def batch_by_size_fn(
    indices: np.ndarray,
    num_tokens_fn: Callable[[int], int],
    max_tokens: int,
    max_sentences: int,
    bsz_mult: int,
) -> list[np.ndarray]:
    """Split indices into batches as :func:`batch_by_size_vec` does, with a function of an index."""
    lengths = np.zeros(len(indices), dtype=np.int64)
    for position, index in enumerate(indices.tolist()):
        lengths[position] = num_tokens_fn(index)
    return batch_by_size_vec(indices, lengths, max_tokens, max_sentences, bsz_mult)


def batch_fixed_shapes_fast(
    indices: np.ndarray, num_tokens_fn: Callable[[int], int], fixed_shapes_sorted: np.ndarray
) -> list[list[int]]:
    """Split indices into batches that have room in one of some shapes.

    Args:
        indices: N integers.
        num_tokens_fn: of an index -> the sentence's number of tokens.
        fixed_shapes_sorted: S x 2; sentences and tokens of each.
    """
    shapes = fixed_shapes_sorted.tolist()
    batches = []
    batch: list[int] = []
    width = 0
    for index in indices.tolist():
        width = max(width, int(num_tokens_fn(index)))
        if not _has_room(shapes, len(batch) + 1, width):
            batches.append(batch)
            # fairseq forgets how long the first sentence of a new batch is
            batch, width = [], 0
        batch.append(index)
    if batch:
        batches.append(batch)
    return batches


def _has_room(shapes: Sequence[Any], size: int, width: int) -> bool:
    return any(size <= sentences and width <= tokens for sentences, tokens in shapes)
