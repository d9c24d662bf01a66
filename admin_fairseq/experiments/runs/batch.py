"""How many batches to add up so that an update sees as many tokens as in the paper."""

import math
from dataclasses import dataclass


@dataclass
class Batch:
    """What one update is made of: ``tokens`` = processes x max_tokens x update_freq, the most it can see.

    fairseq counts the longer side of each sentence pair and its padding: real tokens are fewer, in the
    papers' runs as in ours.
    """

    processes: int
    max_tokens: int
    update_freq: int
    wanted: int

    @property
    def tokens(self):
        return self.processes * self.max_tokens * self.update_freq

    def describe(self):
        """Return one line: the exact tokens per update, and how far they are from those wanted."""
        text = (
            f"tokens per update: {self.processes} process(es) x --max-tokens {self.max_tokens} x --update-freq "
            f"{self.update_freq} = {self.tokens}, wanted {self.wanted}"
        )
        if self.tokens == self.wanted:
            return text + ": equal"
        exact = self._exact_max_tokens()
        hint = f"; --max-tokens {exact} would be exact" if exact else ""
        return f"{text}: {100 * (self.tokens / self.wanted - 1):+.2f}%{hint}"

    def _exact_max_tokens(self):
        """Return the largest --max-tokens up to the given one that meets the wanted number, or None."""
        if self.wanted % self.processes:
            return None
        share = self.wanted // self.processes
        fewest = math.ceil(share / self.max_tokens)
        divisors = (share // freq for freq in range(fewest, 4 * fewest + 1) if share % freq == 0)
        return next(divisors, None)


def plan(wanted, processes, max_tokens):
    """Return the :class:`Batch` whose tokens per update are nearest to ``wanted`` (the larger of two equals)."""
    update_freq = max(1, math.floor(wanted / (processes * max_tokens) + 0.5))
    return Batch(processes, max_tokens, update_freq, wanted)
