"""How far a model's last output moves when its weights do; ``growth`` has the laws of depth.

Liu et al. (EMNLP 2020, section 4.2, theorem 2): when every branch's weights move a little, the
output x_N of an N-site Post-LN Transformer moves by |x_N - x_N*|^2 = O(N), that of Pre-LN by
O(log N); Admin brings Post-LN to O(log N). Two ways to move the weights:

    random    W -= 1e-4 sign(N(0, 1))
    gradient  W -= 1e-6 sign(dLoss/dW)

W are the weight matrices of the branches. Biases, LayerNorms, omegas and embeddings are left alone.
The change is the squared length over the channels, averaged over real positions. Encoder and
decoder move one at a time: the decoder's change is of its own weights, over an unmoved encoder.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import AdminError
from ..profile.measure import positions_that_count
from ..sites import STACKS
from . import gradients, probe

# perturbation -> the step, of every element of the weights
STEPS = {"random": 1e-4, "gradient": 1e-6}

Sites = Mapping[str, Sequence[probe.Site]]
Directions = dict[str, list[tuple[Tensor, Tensor]]]


def output_change(
    model: nn.Module,
    sample: Mapping[str, Any],
    criterion: Any,
    perturbation: str,
    dropout: bool = False,
    seed: int = 1,
) -> dict[str, float]:
    """Measure how far each stack's last output moves when its branches' weights do.

    Args:
        model: in float64: the changes are as small as 1e-10 of the outputs.
        sample: a fairseq batch.
        criterion: fairseq's, for the gradient.
        perturbation: ``random`` or ``gradient``.
        dropout: use the masks of ``seed``, the same ones before and after.
        seed: of the random directions.

    Returns:
        ``{stack: mean over positions of |x_N - x_N*|^2}``. The model is left as it was.

    Raises:
        AdminError: if the outputs are not finite.
    """
    (changes,) = output_changes(model, sample, criterion, perturbation, [seed], dropout)
    return changes


def output_changes(
    model: nn.Module,
    sample: Mapping[str, Any],
    criterion: Any,
    perturbation: str,
    seeds: Sequence[int],
    dropout: bool = False,
    relative: bool = False,
) -> list[dict[str, float]]:
    """Measure :func:`output_change` for several directions.

    Args:
        model: as there.
        sample: as there.
        criterion: as there.
        perturbation: as there.
        seeds: of the directions; the masks of dropout are those of the first.
        dropout: as there.
        relative: divide by the mean squared length of the unmoved output: what is left does not
            depend on the size of the last LayerNorm's gamma.

    Returns:
        ``{stack: change}`` for every seed.
    """
    before = Outputs(model, sample, dropout, seeds[0])
    sites = probe.sites_of(model)
    results = []
    for seed in seeds:
        if perturbation == "gradient":
            # before anything moves: both stacks' directions are of the same weights
            directions = _gradient_signs(model, sample, criterion, sites, dropout, seed)
        else:
            directions = _random_signs(sites, seed)
        changes = {}
        for stack in sites:
            with _moved(directions[stack], STEPS[perturbation]):
                after = before.again(stack)
            size = _squared_length(before.first[stack]) if relative else 1.0
            changes[stack] = _squared_length(after - before.first[stack]) / size
        results.append(changes)
    return results


def _squared_length(x: Tensor) -> float:
    """Return the mean over positions of the squared length over channels of x, P x C."""
    return float(x.pow(2).sum(-1).mean())


class Outputs:
    """The last outputs of both stacks, and the means to run a stack again.

    The decoder runs over the encoder's output as it was at first.

    Args:
        model: in float64.
        sample: a fairseq batch.
        dropout: use the masks of ``seed``, each time the same.
        seed: of the masks.

    Attributes:
        first: stack -> its output, P x C, P the number of real tokens.

    Raises:
        AdminError: if they are not finite.
    """

    def __init__(self, model: Any, sample: Mapping[str, Any], dropout: bool, seed: int) -> None:
        self._model, self._net_input = model, sample["net_input"]
        self._dropout, self._seed = dropout, seed
        self._keep = positions_that_count(model, sample)
        with self._mode():
            self._encoder_out = self._encode()
        self.first = {stack: self.again(stack) for stack in STACKS}
        for stack, x in self.first.items():
            if not torch.isfinite(x).all():
                raise AdminError(
                    f"output change: the {stack}'s output is not finite; "
                    "'admin-fairseq analyze stability' says more"
                )

    def again(self, stack: str) -> Tensor:
        """Run a stack with the weights as they are now, and the same masks as ever; P x C."""
        with self._mode():
            if stack == "encoder":
                x = self._encode()["encoder_out"][0]
            else:
                features, _ = self._model.decoder(
                    self._net_input["prev_output_tokens"],
                    encoder_out=self._encoder_out,
                    features_only=True,
                    src_lengths=self._net_input["src_lengths"],
                )
                # decoders put out B x T x C, and masks are T x B
                x = features.transpose(0, 1)
        return probe.select(self._keep, stack, x)

    def _encode(self) -> dict[str, Any]:
        tokens, lengths = self._net_input["src_tokens"], self._net_input["src_lengths"]
        return self._model.encoder(tokens, src_lengths=lengths)

    @contextlib.contextmanager
    def _mode(self) -> Iterator[None]:
        with torch.no_grad(), probe.dropout_mode(self._model, self._dropout, self._seed):
            yield


def _random_signs(sites: Sites, seed: int) -> Directions:
    """Return ``{stack: [(weight, random signs)]}``."""
    # on the CPU, so that they are the same on every device
    generator = torch.Generator().manual_seed(seed)
    directions: Directions = {}
    for stack, of_stack in sites.items():
        directions[stack] = []
        for site in of_stack:
            for weight in site.matrices:
                noise = torch.randn(weight.shape, generator=generator)
                directions[stack].append((weight, noise.sign().to(weight)))
    return directions


def _gradient_signs(
    model: nn.Module,
    sample: Mapping[str, Any],
    criterion: Any,
    sites: Sites,
    dropout: bool,
    seed: int,
) -> Directions:
    """Return ``{stack: [(weight, signs of its gradient)]}``."""
    directions: Directions = {}
    with gradients.backward(model, sample, criterion, dropout, seed):
        for stack, of_stack in sites.items():
            directions[stack] = []
            for site in of_stack:
                for weight in site.matrices:
                    assert weight.grad is not None, "backward gives every weight one"
                    directions[stack].append((weight, weight.grad.sign()))
    return directions


@contextlib.contextmanager
def _moved(directions: Sequence[tuple[Tensor, Tensor]], step: float) -> Iterator[None]:
    """Take ``step`` times the direction from every weight; put the same bits back afterwards."""
    # copies: to add the step again would leave rounding behind
    saved = [weight.detach().clone() for weight, _ in directions]
    with torch.no_grad():
        for weight, direction in directions:
            weight.sub_(direction, alpha=step)
        try:
            yield
        finally:
            for (weight, _), before in zip(directions, saved):
                weight.copy_(before)
