"""A model's sizes; its parameters, and the floating-point operations that it takes to train it."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Shape:
    """The sizes of an encoder-decoder with shared embeddings and sinusoidal positions.

    Attributes:
        encoder: layers of the encoder.
        decoder: layers of the decoder.
        dim: the embedding's, C.
        ffn: of the feed-forward branches, F.
        heads: of each attention.
        types: rows of the embedding, V.
        omegas: whether each residual site has a vector of C parameters, as Admin's have.
    """

    encoder: int
    decoder: int
    dim: int
    ffn: int
    heads: int
    types: int
    omegas: bool = True

    @property
    def parameters(self) -> int:
        """How many there are: exactly those of fairseq's model."""
        attention = 4 * (self.dim**2 + self.dim)
        feed_forward = 2 * self.dim * self.ffn + self.ffn + self.dim
        site = 2 * self.dim + (self.dim if self.omegas else 0)  # a LayerNorm, an omega
        encoder = self.encoder * (attention + feed_forward + 2 * site)
        decoder = self.decoder * (2 * attention + feed_forward + 3 * site)
        return self.types * self.dim + encoder + decoder


@dataclass(frozen=True)
class Text:
    """Sums over sentence pairs, of lengths in tokens with the end of the sentence.

    Attributes:
        pairs: how many there are.
        source: sum of the source sides' lengths, S.
        target: sum of the target sides' lengths, T.
        source_squared: sum of S x S.
        target_squared: sum of T x T.
        source_by_target: sum of S x T.
    """

    pairs: float
    source: float
    target: float
    source_squared: float
    target_squared: float
    source_by_target: float

    @staticmethod
    def of_means(pairs: float, source: float, target: float) -> "Text":
        """Return the sums of a text whose pairs are all as long as its mean one."""
        s, t = source / pairs, target / pairs
        return Text(pairs, source, target, pairs * s * s, pairs * t * t, pairs * s * t)


def layer_flops(shape: Shape, text: Text) -> float:
    """Return the operations of all layers, forward, for a text: two for each multiply-and-add.

    Matrix products alone count, which is what ``torch.utils.flop_counter`` counts. A token takes
    2 C C for each of the four maps of an attention and 4 C F for a feed-forward branch; a pair of
    lengths S and T takes 4 C S T for the two products of an attention (masked positions are
    computed too).
    """
    c, maps = shape.dim, 2 * shape.dim**2
    feed_forward = 4 * c * shape.ffn
    encoder = (4 * maps + feed_forward) * text.source + 4 * c * text.source_squared
    # q and the output of the cross-attention read the target, k and v the source
    decoder = (6 * maps + feed_forward) * text.target + 2 * maps * text.source
    decoder += 4 * c * (text.target_squared + text.source_by_target)
    return shape.encoder * encoder + shape.decoder * decoder


def output_flops(shape: Shape, text: Text) -> float:
    """Return the operations of the output projection, forward."""
    return 2.0 * shape.dim * shape.types * text.target


def training_flops(shape: Shape, text: Text, checkpointing: bool = False) -> float:
    """Return the operations of forward and backward passes over a text, without padding.

    Backward takes twice what forward does. With ``--checkpoint-activations`` the layers go forward
    once more.
    """
    layers = (4 if checkpointing else 3) * layer_flops(shape, text)
    return layers + 3 * output_flops(shape, text)
