"""How many batches to add up so that an update sees as many tokens as in the paper."""

import math
from dataclasses import dataclass
from typing import Optional


@dataclass
class Batch:
    """What one update is made of.

    fairseq counts the longer side of each sentence pair and its padding: real tokens are fewer, in
    the papers' runs as in ours.

    Attributes:
        processes: one a device, on all machines.
        max_tokens: of one batch on one device.
        update_freq: batches that are added up.
        wanted: tokens per update that the recipe asks for.
    """

    processes: int
    max_tokens: int
    update_freq: int
    wanted: int

    @property
    def tokens(self) -> int:
        """The most tokens that an update can see."""
        return self.processes * self.max_tokens * self.update_freq

    def describe(self) -> str:
        """Return one line: the exact tokens per update, and how far they are from the recipe's."""
        text = (
            f"tokens per update: {self.processes} process(es) x --max-tokens {self.max_tokens} x "
            f"--update-freq {self.update_freq} = {self.tokens}, asked for {self.wanted}"
        )
        if self.tokens == self.wanted:
            return text + ": equal"
        exact = self._exact_max_tokens()
        hint = f"; --max-tokens {exact} would be exact" if exact else ""
        return f"{text}: {100 * (self.tokens / self.wanted - 1):+.2f}%{hint}"

    def _exact_max_tokens(self) -> Optional[int]:
        """Return the largest --max-tokens up to the given one that is exact, or None."""
        if self.wanted % self.processes:
            return None
        share = self.wanted // self.processes
        fewest = math.ceil(share / self.max_tokens)
        for update_freq in range(fewest, 4 * fewest + 1):
            if share % update_freq == 0:
                return share // update_freq
        return None


def plan(wanted: int, processes: int, max_tokens: int) -> Batch:
    """Return the batch whose tokens per update are nearest to ``wanted``.

    Of two that are equally near it is the larger.
    """
    update_freq = max(1, math.floor(wanted / (processes * max_tokens) + 0.5))
    return Batch(processes, max_tokens, update_freq, wanted)
