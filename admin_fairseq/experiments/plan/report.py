"""What a training will take, as lines of text."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Optional

from ..recipe import Recipe
from ..runs.batch import Batch
from .corpus import Corpus
from .gpus import Gpu
from .memory import FLOAT16, Memory, needed
from .shape import Shape, training_flops

_GIB = 2**30
_UNKNOWN = "unknown until the data is prepared"
USUAL_UTILISATION = 0.1


@dataclass(frozen=True)
class Plan:
    """One training, and what is known of it.

    Attributes:
        recipe: what is trained.
        layers: ENCODER-DECODER.
        shape: None where the number of types is unknown.
        corpus: its text.
        batch: of one update, on these GPUs.
        count: how many GPUs.
        gpu: which.
        utilisation: the share of the GPUs' peak arithmetic that a training reaches.
    """

    recipe: Recipe
    layers: str
    shape: Optional[Shape]
    corpus: Corpus
    batch: Batch
    count: int
    gpu: Gpu
    utilisation: float

    def updates_an_epoch(self) -> Optional[float]:
        """Return how many updates an epoch has."""
        batches = self.corpus.batches(self.batch.max_tokens)
        if batches is None:
            return None
        return max(1.0, batches / (self.batch.processes * self.batch.update_freq))

    def epochs(self) -> Optional[float]:
        """Return how many epochs the recipe trains."""
        epochs = self.recipe.get("training", "epochs", self.layers)
        updates, of_epoch = self.recipe.get("training", "updates", self.layers), None
        if updates:
            of_epoch = self.updates_an_epoch()
            if of_epoch is None:
                return None
            reached = updates / of_epoch
            return min(reached, epochs) if epochs else reached
        return float(epochs)

    def flops(self, checkpointing: bool) -> Optional[float]:
        """Return the operations of the whole training."""
        epochs = self.epochs()
        if self.shape is None or self.corpus.text is None or epochs is None:
            return None
        return epochs * training_flops(self.shape, self.corpus.text, checkpointing)

    def hours(self, checkpointing: bool) -> Optional[float]:
        """Return how long it will take."""
        flops = self.flops(checkpointing)
        if flops is None:
            return None
        return flops / (self.count * self.gpu.tflops * 1e12 * self.utilisation) / 3600

    def memory(self, checkpointing: bool) -> Optional[Memory]:
        """Return what one GPU needs."""
        if self.shape is None:
            return None
        length = self.corpus.mean_length or 0.0
        tokens, processes = self.batch.max_tokens, self.batch.processes
        return needed(self.shape, tokens, length, FLOAT16, checkpointing, processes)


def lines(plan: Plan) -> Iterator[str]:
    """Yield the lines: what is planned, what it takes, and what was published of it."""
    gpu = plan.gpu
    yield (
        f"{plan.recipe.name}, {plan.layers}, on {plan.count} x {gpu.name} "
        f"({gpu.tflops:g} TFLOPS and {gpu.memory:g} GiB each)"
    )
    yield f"  model: {_model(plan)}"
    yield f"  text: {_text(plan.corpus)}"
    yield f"  {plan.batch.describe()}"
    yield f"  updates: {_updates(plan)}"
    yield f"  arithmetic: {_arithmetic(plan)}"
    for checkpointing in (False, True):
        yield f"  memory of one GPU{_with(checkpointing)}: {_memory(plan, checkpointing)}"
    yield f"  time: {_time(plan)}"
    yield from _published(plan)


def _with(checkpointing: bool) -> str:
    return " with --checkpoint-activations" if checkpointing else ""


def _model(plan: Plan) -> str:
    if plan.shape is None:
        return f"parameters {_UNKNOWN}: they depend on the number of types"
    return f"{plan.shape.parameters:,} parameters, {plan.shape.types:,} types"


def _text(corpus: Corpus) -> str:
    if corpus.text is None:
        return corpus.source
    text = corpus.text
    return (
        f"{text.pairs:,.0f} pairs an epoch, {text.source:,.0f} tokens of the source and "
        f"{text.target:,.0f} of the target ({corpus.source})"
    )


def _updates(plan: Plan) -> str:
    of_epoch, epochs = plan.updates_an_epoch(), plan.epochs()
    if of_epoch is None or epochs is None:
        return _UNKNOWN
    least = "about" if plan.corpus.lengths else "at least"
    return f"{least} {of_epoch:,.0f} an epoch, {of_epoch * epochs:,.0f} in {epochs:,.3g} epochs"


def _arithmetic(plan: Plan) -> str:
    plain, again = plan.flops(False), plan.flops(True)
    if plain is None or again is None:
        return _UNKNOWN
    return f"{plain:.2e} operations, {again:.2e} with --checkpoint-activations, without padding"


def _memory(plan: Plan, checkpointing: bool) -> str:
    memory = plan.memory(checkpointing)
    if memory is None:
        return _UNKNOWN
    parts = {
        "weights": memory.weights,
        "gradients": memory.gradients,
        "optimizer": memory.optimizer,
        "activations": memory.activations,
    }
    told = ", ".join(f"{name} {size / _GIB:.1f}" for name, size in parts.items())
    fits = memory.total / _GIB + 1.5 < plan.gpu.memory  # 1.5: CUDA's own, and what is in pieces
    verdict = "fits" if fits else f"more than its {plan.gpu.memory:g} GiB: --max-tokens"
    if not fits and not checkpointing:
        verdict += ", or --checkpoint-activations"
    return f"{memory.total / _GIB:.1f} GiB ({told}): {verdict}"


def _time(plan: Plan) -> str:
    plain, again = plan.hours(False), plan.hours(True)
    if plain is None or again is None:
        return _UNKNOWN
    return (
        f"about {plain:,.3g} hours, {again:,.3g} with --checkpoint-activations, at "
        f"{plan.utilisation:.0%} of the GPUs' peak (--utilisation; see docs/cost.md)"
    )


def _published(plan: Plan) -> Iterator[str]:
    took = plan.recipe.get("plan", "took", plan.layers)
    yield f"  published: {took or 'nothing that we know of'}"
