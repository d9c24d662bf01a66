"""Which GPUs a training gets, by CUDA_VISIBLE_DEVICES of the processes that are started.

A recipe's ``tokens-per-update`` says how many GPUs one training takes: 1 x 4096 is one GPU with
4,096 tokens, and stays so on a machine with eight, where eight trainings go on beside each other.
On fewer GPUs than the recipe's a training takes all, and adds up more batches.
"""

import math

from ..recipe import Recipe
from . import machine

_VARIABLE = "CUDA_VISIBLE_DEVICES"


def of_one_training(recipe: Recipe, layers: str, nodes: int, available: int) -> int:
    """Return how many GPUs of each machine one training takes, of those that are there."""
    factors = recipe.get("training", "tokens-per-update", layers)
    wanted = factors[0] if len(factors) > 1 else 1
    return max(1, min(available, math.ceil(wanted / nodes)))


def environment(cpu: bool, count: int) -> dict[str, str]:
    """Return what makes a process see the first ``count`` of the GPUs that this one sees.

    fairseq-train takes all GPUs that it sees, whatever else it is told.
    """
    if cpu:
        return {_VARIABLE: ""}
    return visible([gpu.word for gpu in machine.visible_gpus()[:count]])


def visible(words: list[str]) -> dict[str, str]:
    """Return what makes a process see these GPUs, of :func:`machine.visible_gpus`."""
    return {_VARIABLE: ",".join(words)}
