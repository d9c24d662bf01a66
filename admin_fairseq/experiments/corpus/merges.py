"""Learning BPE: the merges that ``subword-nmt learn-bpe`` (0.3.8) finds, several times as fast.

Sennrich et al., "Neural Machine Translation of Rare Words with Subword Units" (ACL 2016): the pair
of symbols that is the most frequent in all words becomes one symbol, again and again.

subword-nmt looks at every pair to find the most frequent one. Here pairs are kept by how often
they are, and only those that a merge changed move. Its results depend on what it does to be fast
itself: rare pairs are set aside, and not counted on exactly while they are. So all of that is here
as well; :class:`_Pairs` says where.
"""

import collections
import heapq
import logging
import re
import time
from collections.abc import Mapping

log = logging.getLogger(__name__)
_END = "</w>"  # at the last symbol of a word
_LEAST = 2  # rarer pairs are not merged
_PRUNED_EVERY = 100  # merges
_TOLD_EVERY = 10.0  # seconds
_Pair = tuple[str, str]
_Word = tuple[str, ...]
_Counts = collections.defaultdict[_Pair, int]


def learn_merges(counts: Mapping[str, int], merges: int) -> list[_Pair]:
    """Return the pairs to merge, in their order: at most ``merges``, and none that is found once.

    Args:
        counts: word -> how often it is there; no word is empty.
        merges: how many.

    Raises:
        ValueError: if no word has two symbols.
    """
    pairs = _Pairs(counts)
    found: list[_Pair] = []
    started = told = time.monotonic()
    for number in range(merges):
        pair = pairs.most_frequent(number)
        if pairs.counts[pair] < _LEAST:
            log.info("learn BPE: no pair is left that is found %d times", _LEAST)
            break
        found.append(pair)
        pairs.merge(pair)
        if number % _PRUNED_EVERY == 0:
            pairs.prune()
        now = time.monotonic()
        if now - told > _TOLD_EVERY:
            told = now
            log.info(_told(len(found), now - started, f" of {merges:,}"))
    log.info(_told(len(found), time.monotonic() - started))
    return found


def _told(count: int, seconds: float, share: str = "") -> str:
    return f"learn BPE: {count:,}{share} merges, {count / max(seconds, 1e-9):,.0f} merges/s"


class _Pairs:
    """How often each pair of symbols is in the words, while they are merged.

    Attributes:
        counts: of the pairs that are looked at. A rare one is taken out, with its count then kept
            in ``_rare``. If it is changed meanwhile, it comes back with the change alone: what is
            kept is that, if it is positive, and otherwise less by it.
    """

    def __init__(self, counts: Mapping[str, int]) -> None:
        self._words: list[tuple[_Word, int]] = []
        # words with blanks other than a space, which patterns take for the ends of symbols
        self._blank: set[int] = set()
        self.counts: _Counts = collections.defaultdict(int)
        # pair -> number of a word -> how often it is in it
        self._places: dict[_Pair, collections.defaultdict[int, int]] = {}
        for word, count in counts.items():
            if word.split() != [word]:
                self._blank.add(len(self._words))
            symbols = (*word[:-1], word[-1] + _END)
            for pair in zip(symbols, symbols[1:]):
                self.counts[pair] += count
                self._places_of(pair)[len(self._words)] += 1
            self._words.append((symbols, count))
        self._rare = self.counts.copy()
        self._threshold = max(self.counts.values()) / 10
        self._sort()

    def _places_of(self, pair: _Pair) -> collections.defaultdict[int, int]:
        places = self._places.get(pair)
        if places is None:
            places = self._places[pair] = collections.defaultdict(int)
        return places

    # --- the most frequent one

    def _sort(self) -> None:
        """Put all pairs where :meth:`_best` looks for them."""
        self._by_count: dict[int, list[_Pair]] = {}
        for pair, count in self.counts.items():
            self._by_count.setdefault(count, []).append(pair)
        self._heap = [-count for count in self._by_count]
        heapq.heapify(self._heap)

    def _moved(self, pair: _Pair) -> None:
        count = self.counts[pair]
        if count in self._by_count:
            self._by_count[count].append(pair)
        else:
            self._by_count[count] = [pair]
            heapq.heappush(self._heap, -count)

    def _best(self) -> _Pair:
        """Return the most frequent pair; of several the last in the order of their text."""
        while True:
            count = -self._heap[0]
            # pairs stay where they were when they are moved or taken out
            there = [pair for pair in self._by_count[count] if self.counts.get(pair) == count]
            if there:
                self._by_count[count] = there
                return max(there)
            del self._by_count[count]
            heapq.heappop(self._heap)

    def most_frequent(self, number: int) -> _Pair:
        """Return the pair to merge, as merge ``number``; rare ones come back when it is time."""
        if self.counts:
            best = self._best()
            if not number or self.counts[best] >= self._threshold:
                return best
        self.prune()
        self.counts = self._rare.copy()
        most = max(self.counts.values())
        self._threshold = most * number / (number + 10000)
        best = max(pair for pair, count in self.counts.items() if count == most)
        self.prune()
        self._sort()
        return best

    def prune(self) -> None:
        """Take out the pairs that are rarer than the threshold."""
        for pair, count in list(self.counts.items()):
            if count < self._threshold:
                del self.counts[pair]
                if count < 0:
                    self._rare[pair] += count
                else:
                    self._rare[pair] = count

    # --- a merge

    def merge(self, pair: _Pair) -> None:
        """Make a pair one symbol in all words, and count the pairs beside it."""
        places = self._places_of(pair)
        self._places[pair] = collections.defaultdict(int)
        changed: set[_Pair] = {pair}
        symbol = pair[0] + pair[1]
        merged = []
        # all words first: a word whose count of another pair is wrong is passed over, there too
        for number, times in places.items():
            if times < 1:
                continue
            old, count = self._words[number]
            new = _merged_in_blanks(old, pair) if number in self._blank else _merged(old, pair)
            self._words[number] = (new, count)
            merged.append((number, old, new, count))
        for number, old, new, count in merged:
            self._take_away(old, pair, number, count, changed)
            self._add(new, symbol, number, count, changed)
        self.counts[pair] = 0
        for other in changed:
            self._moved(other)

    def _take_away(
        self, word: _Word, pair: _Pair, number: int, count: int, changed: set[_Pair]
    ) -> None:
        """Count the pairs beside a merged one no more."""
        first, second = pair
        last, at = len(word) - 1, 0
        while at < last:
            if word[at] != first or word[at + 1] != second:
                at += 1
                continue
            beside = []
            if at:
                beside.append((word[at - 1], first))
            if at + 1 < last:
                following = (second, word[at + 2])
                # of A B A B the pair B A is taken away with the second A B
                if word[at + 2] != first or at + 2 >= last or word[at + 3] != second:
                    beside.append(following)
            for other in beside:
                self.counts[other] -= count
                self._places_of(other)[number] -= 1
                changed.add(other)
            at += 2

    def _add(self, word: _Word, symbol: str, number: int, count: int, changed: set[_Pair]) -> None:
        """Count the pairs beside a new symbol."""
        last = len(word) - 1
        for at, there in enumerate(word):
            if there != symbol:
                continue
            beside = []
            if at:
                beside.append((word[at - 1], symbol))
            # of two new symbols in a row, the second one counts the pair
            if at < last and word[at + 1] != symbol:
                beside.append((symbol, word[at + 1]))
            for other in beside:
                self.counts[other] += count
                self._places_of(other)[number] += 1
                changed.add(other)


def _merged(word: _Word, pair: _Pair) -> _Word:
    """Return a word with each of a pair made one symbol, from the left."""
    first, second = pair
    made, at, last = [], 0, len(word) - 1
    while at <= last:
        if at < last and word[at] == first and word[at + 1] == second:
            made.append(first + second)
            at += 2
        else:
            made.append(word[at])
            at += 1
    return tuple(made)


def _merged_in_blanks(word: _Word, pair: _Pair) -> _Word:
    """As :func:`_merged`, where a symbol can end, or begin, at any blank in it."""
    pattern = rf"(?<!\S){re.escape(' '.join(pair))}(?!\S)"
    joined = "".join(pair)
    return tuple(re.sub(pattern, lambda _: joined, " ".join(word)).split(" "))
