"""How much text a training has: what its data-bin holds, or what its recipe knows of it."""

import mmap
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Optional

from ...errors import AdminError
from ..mmap_index import HEADER, MAGIC, VERSION
from ..recipe import Recipe
from .shape import Text

_SAMPLE = 20_000  # pairs that are looked at; all of them would take seconds
_MULTIPLE = 8  # fairseq's --required-batch-size-multiple
_SPECIALS = 4  # types of fairseq's own


@dataclass(frozen=True)
class Corpus:
    """The training set.

    Attributes:
        text: its sums of lengths; None where nothing is known.
        types: of the joint dictionary, with fairseq's own; None where nothing is known.
        lengths: (pairs, the longer side's length) -> of the pairs that were looked at, how many
            pairs of the whole set each stands for; empty if there is no data-bin.
        source: where this is from, as text.
    """

    text: Optional[Text]
    types: Optional[int]
    lengths: tuple[tuple[float, int], ...]
    source: str

    def batches(self, max_tokens: int) -> Optional[float]:
        """Return how many batches an epoch has; None where nothing is known.

        fairseq sorts pairs by length; a batch has as many as its longest side's length allows, and
        a multiple of eight if that is more than eight. Without lengths all pairs are as long as the
        mean one.
        """
        if self.lengths:
            return sum(pairs / _fitting(max_tokens, length) for pairs, length in self.lengths)
        if self.text is None:
            return None
        return max(self.text.source, self.text.target) / max_tokens

    @property
    def mean_length(self) -> Optional[float]:
        """The longer side's mean length, in tokens."""
        if self.lengths:
            total = sum(pairs for pairs, _ in self.lengths)
            return sum(pairs * length for pairs, length in self.lengths) / total
        if self.text is None:
            return None
        return max(self.text.source, self.text.target) / self.text.pairs


def _fitting(max_tokens: int, length: int) -> int:
    count = max(1, max_tokens // length)
    return count - count % _MULTIPLE if count > _MULTIPLE else count


def find_corpus(recipe: Recipe, data: Path) -> Corpus:
    """Return what is known of a recipe's training set.

    Raises:
        AdminError: if there is a data-bin, and it is damaged.
    """
    folder = data / "data-bin"
    stem = f"train.{recipe.source}-{recipe.target}"
    sides = [folder / f"{stem}.{lang}.idx" for lang in (recipe.source, recipe.target)]
    if all(path.is_file() for path in sides):
        return _of_data_bin(sides[0], sides[1], _types(folder / f"dict.{recipe.source}.txt"))
    types = recipe.get("plan", "types")
    if types is None and recipe.data.merges:
        types = recipe.data.merges + _SPECIALS
    source = recipe.get("plan", "from")
    pairs, tokens = recipe.get("plan", "pairs"), recipe.get("plan", "tokens")
    if not pairs or not tokens:
        return Corpus(None, types, (), "unknown until the data is prepared")
    first, second = (side or max(side or 0 for side in tokens) for side in tokens)
    if None in tokens:
        source += "; the side that it does not give is taken to be as long as the other"
    return Corpus(Text.of_means(pairs, first, second), types, (), source)


def _types(path: Path) -> Optional[int]:
    try:
        with open(path, "rb") as file:
            return sum(1 for _ in file) + _SPECIALS
    except OSError:
        return None


def _of_data_bin(source: Path, target: Path, types: Optional[int]) -> Corpus:
    first, pairs = _some_lengths(source)
    second, others = _some_lengths(target)
    if pairs != others:
        raise AdminError(f"{source} has {pairs} sentences, {target} {others}: prepare them again")
    each = pairs / len(first)
    both = list(zip(first, second))
    text = Text(
        pairs=pairs,
        source=each * sum(first),
        target=each * sum(second),
        source_squared=each * sum(s * s for s in first),
        target_squared=each * sum(t * t for t in second),
        source_by_target=each * sum(s * t for s, t in both),
    )
    lengths = tuple((each, max(s, t)) for s, t in both)
    looked = "all" if len(first) == pairs else f"{len(first):,} pairs, evenly spread,"
    return Corpus(text, types, lengths, f"{source.parent}: {looked} of its lengths")


def _some_lengths(path: Path) -> tuple[list[int], int]:
    """Return the lengths of some sentences of an index, evenly spread, and how many there are."""
    try:
        with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as view:
            magic, version, _, count = HEADER.unpack_from(view)
            if magic != MAGIC or version != VERSION or count < 1:
                raise ValueError
            number = min(count, _SAMPLE)
            places = (HEADER.size + 4 * (at * count // number) for at in range(number))
            found = [int(struct.unpack_from("<i", view, place)[0]) for place in places]
    except (OSError, ValueError, struct.error):
        raise AdminError(
            f"{path}: cannot be read as an index of fairseq-preprocess's; prepare the data again"
        ) from None
    if min(found) < 1:
        raise AdminError(f"{path} is damaged: a sentence has no token; prepare the data again")
    return found, count
