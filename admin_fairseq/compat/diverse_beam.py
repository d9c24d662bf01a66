"""``--diverse-beam-groups``: each sentence of a batch by its own words."""

import functools
from collections.abc import Callable
from typing import Any

import torch

from .marks import is_mended, mark


def count_diversity_by_row() -> None:
    """Have diverse beam search count the words of each sentence by its row in the batch.

    fairseq keeps a row a sentence, but looks it up by the sentence's number in the data set. That
    is an IndexError, or another sentence's row where the number happens to be small enough.
    Without numbers fairseq counts the sentences of the batch, so they are kept from this search.
    Other searches get them as before: a function that constrains prefixes may know sentences by
    them.
    """
    from fairseq import search, sequence_generator

    if not _looks_up_by_number(search):
        return
    for kind in (
        sequence_generator.SequenceGenerator,
        sequence_generator.SequenceGeneratorWithAlignment,
    ):
        if not is_mended(kind.generate):
            kind.generate = mark(_without_numbers(kind.generate, search.DiverseBeamSearch))


def _without_numbers(original: Callable[..., Any], diverse: type) -> Callable[..., Any]:
    @functools.wraps(original)
    def generate(self: Any, models: Any, sample: dict[str, Any], **kwargs: Any) -> Any:
        if isinstance(self.search, diverse):
            sample = {key: value for key, value in sample.items() if key != "id"}
        return original(self, models, sample, **kwargs)

    return generate


class _Words:
    """What a search asks of a dictionary."""

    def pad(self) -> int:
        return 1

    def eos(self) -> int:
        return 2

    def unk(self) -> int:
        return 3

    def __len__(self) -> int:
        return 8


def _looks_up_by_number(search: Any) -> bool:
    # a batch of one sentence whose number, 7, is beyond its rows
    diverse = search.DiverseBeamSearch(_Words(), num_groups=2, diversity_strength=0.5)
    number, lprobs, scores = torch.tensor([7]), torch.zeros(1, 2, 8), torch.zeros(1, 2, 1)
    tokens = torch.full((2, 2), 2)
    try:
        diverse.step(0, lprobs, scores[:, :, :0], tokens[:, :1], number)
        diverse.step(1, lprobs, scores, tokens, number)
    except IndexError:
        return True
    return False
