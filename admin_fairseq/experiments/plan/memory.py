"""What a training needs on one device, in bytes.

A sum of what is there at the same time, at the begin of the backward pass, when all activations
are. Not counted: what CUDA takes for itself, and what its allocator cannot use (1 to 2 GB).
"""

from dataclasses import dataclass

from .shape import Shape


@dataclass(frozen=True)
class Precision:
    """Bytes of what there is of each parameter, and of each activation.

    Attributes:
        weights: of the model's.
        gradients: of all copies of the gradients.
        optimizer: of RAdam's or Adam's two moments, and of master weights.
        activation: of what is kept for the backward pass.
    """

    weights: int
    gradients: int
    optimizer: int
    activation: int


FLOAT32 = Precision(weights=4, gradients=4, optimizer=8, activation=4)
# fairseq's --fp16 and --bf16 keep float32 copies of weights and gradients
FLOAT16 = Precision(weights=2, gradients=2 + 4, optimizer=4 + 8, activation=2)


@dataclass(frozen=True)
class Memory:
    """Bytes on one device."""

    weights: float
    gradients: float
    optimizer: float
    activations: float

    @property
    def total(self) -> float:
        """All of it."""
        return self.weights + self.gradients + self.optimizer + self.activations


def needed(
    shape: Shape,
    tokens: int,
    length: float,
    precision: Precision,
    checkpointing: bool = False,
    processes: int = 1,
) -> Memory:
    """Return what a training needs.

    Args:
        shape: the model's sizes.
        tokens: ``--max-tokens``: of each side of a batch, padding included, at the most.
        length: of the batch's sentences, in tokens, padding included.
        precision: ``FLOAT16`` for ``--fp16`` and ``--bf16``, or ``FLOAT32``.
        checkpointing: whether with ``--checkpoint-activations``.
        processes: trainings on several devices have a copy of the gradients, to exchange them.
    """
    count = shape.parameters
    exchanged = precision.weights if processes > 1 else 0
    return Memory(
        weights=count * precision.weights,
        gradients=count * (precision.gradients + exchanged),
        optimizer=count * precision.optimizer,
        activations=tokens * _activations(shape, length, precision.activation, checkpointing),
    )


def _activations(shape: Shape, length: float, size: int, checkpointing: bool) -> float:
    """Return the bytes for each token of a batch, source and target together.

    What is counted is what torch keeps of each layer for its backward pass (see
    docs/cost.md#what-plan-reckons): in units of C for what has the embedding's size, of F for the
    feed-forward branch's, and of heads x length for attention weights. These are kept by torch's
    plain attention; fused kernels on GPUs keep none.
    """
    c, ffn, weights = shape.dim, 3 * shape.ffn, 3 * shape.heads * length
    encoder = (10 * c + ffn + weights) * size + _STATISTICS * 2
    decoder = (17 * c + ffn + 2 * weights) * size + _STATISTICS * 3
    layers = shape.encoder * encoder + shape.decoder * decoder
    if checkpointing:  # the inputs of all layers, and all of the layer that is gone through again
        layers = (shape.encoder + shape.decoder) * c * size + max(encoder, decoder)
    return layers + _EMBEDDED * c * size + _outputs(shape, size)


_STATISTICS = 8  # bytes: mean and deviation of each LayerNorm, in float32
_EMBEDDED = 4  # embeddings of both sides, before and after dropout


def _outputs(shape: Shape, size: int) -> float:
    """Return the bytes of one token's output: scores, their logarithms, gradients of both."""
    return float(shape.types * (size + 4 + 4 + size))
