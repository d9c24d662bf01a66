"""The yardstick of a training that learned something: a model that knows how frequent words are.

fairseq's data-bin is read without fairseq: an index (``.idx``) says how token ids are stored in the
``.bin`` file beside it.
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...errors import AdminError
from ..mmap_index import HEADER, MAGIC, TYPES, VERSION

if TYPE_CHECKING:
    import numpy as np

_CHUNK = 10_000_000  # token ids that are counted at once: WMT'14 En-Fr has a billion


def unigram_bits(data_bin: str | Path, source: str, target: str) -> float:
    """Return the validation set's loss under the training set's target unigrams, in bits a token.

    A word that the training set does not have counts as one that it has once.

    Raises:
        AdminError: if the data is missing, damaged, or of another --dataset-impl than mmap.
    """
    import numpy as np

    stems = [Path(data_bin) / f"{split}.{source}-{target}.{target}" for split in ("train", "valid")]
    train, valid = (count_tokens(stem) for stem in stems)
    size = max(len(train), len(valid))
    train, valid = (np.pad(counts, (0, size - len(counts))) for counts in (train, valid))
    bits = -np.log2(np.maximum(train, 1) / train.sum())
    return float((valid * bits).sum() / valid.sum())


def is_mmap(index: Path) -> bool:
    """Whether an index is of --dataset-impl mmap."""
    with open(index, "rb") as file:
        return file.read(len(MAGIC)) == MAGIC


def count_tokens(stem: Path) -> np.ndarray[Any, Any]:
    """Return how often each token id is in a data set, its ``.idx`` and ``.bin`` named by stem."""
    import numpy as np

    index, binary = (stem.parent / (stem.name + ending) for ending in (".idx", ".bin"))
    kind, tokens = _read_index(index)
    try:
        ids = np.memmap(binary, dtype=kind, mode="r")
    except (OSError, ValueError) as error:  # ValueError: empty, or no whole number of ids
        raise AdminError(f"{binary}: cannot be read: {error}; prepare the data again") from None
    if len(ids) != tokens:
        raise AdminError(
            f"{binary} is damaged: it holds {len(ids)} token ids, its index {tokens}; prepare the "
            "data again"
        )
    counts = np.zeros(0, dtype=np.int64)
    for begin in range(0, len(ids), _CHUNK):
        found = np.bincount(np.asarray(ids[begin : begin + _CHUNK], dtype=np.int64))
        size = max(len(counts), len(found))
        counts = np.pad(counts, (0, size - len(counts))) + np.pad(found, (0, size - len(found)))
    return counts


def _read_index(path: Path) -> tuple[str, int]:
    """Return the type of the token ids, and how many there are."""
    import numpy as np

    try:
        content = path.read_bytes()
    except OSError as error:
        raise AdminError(f"{path}: cannot be read: {error.strerror}; prepare the data") from None
    if not content.startswith(MAGIC):
        raise AdminError(
            f"{path}: is not of --dataset-impl mmap, the only one that is read here: prepare the "
            "data with fairseq-preprocess's default"
        )
    try:
        _, version, kind, sentences = HEADER.unpack_from(content)
        sizes = np.frombuffer(content, np.int32, count=sentences, offset=HEADER.size)
        if version == VERSION and kind in TYPES:
            return TYPES[kind], int(sizes.sum())
    except (struct.error, ValueError):
        pass
    raise AdminError(f"{path} is damaged: prepare the data again")
