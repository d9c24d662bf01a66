"""``--criterion fused_label_smoothed_cross_entropy``: fairseq's loss, faster and in less memory.

It equals ``label_smoothed_cross_entropy`` to rounding, in value, gradient, flags and log lines. The
model's own forward projects and computes the loss (``AdminTransformerModel.forward``), so that
wrappers for several processes see every weight used where they look for it.
"""

from __future__ import annotations

import functools
from typing import Any

from fairseq.criterions import register_criterion
from fairseq.criterions.label_smoothed_cross_entropy import (
    LabelSmoothedCrossEntropyCriterion,
    LabelSmoothedCrossEntropyCriterionConfig,
)
from torch import Tensor, nn

from .errors import raise_all
from .fused_attention import has_hooks
from .fused_loss import Sums, fused_loss
from .model import AdminTransformerDecoder, AdminTransformerModel

NAME = "fused_label_smoothed_cross_entropy"

# what lies between features and loss: a class of its own that changes one of these would be ignored
_PROBABILITIES = ("get_normalized_probs", "get_normalized_probs_scriptable")
_MODEL_METHODS = ("forward", "get_targets", *_PROBABILITIES)
_DECODER_METHODS = ("forward", "output_layer", *_PROBABILITIES)


@register_criterion(NAME, dataclass=LabelSmoothedCrossEntropyCriterionConfig)
class FusedLabelSmoothedCrossEntropyCriterion(LabelSmoothedCrossEntropyCriterion):
    """``label_smoothed_cross_entropy`` over :func:`~admin_fairseq.fused_loss.fused_loss`."""

    def forward(self, model: Any, sample: dict[str, Any], reduce: bool = True) -> Any:
        """Return loss, sample size and figures to log, as fairseq's criterion does.

        Its own way is taken for a loss per token (``reduce=False``), and while hooks watch the
        output projection, as fairseq's search for the origin of a NaN does.

        Raises:
            AdminError: if the model has no plain output projection.
        """
        inner = _unwrap(model)
        raise_all(
            f"--criterion {NAME} does not work with this model; take --criterion "
            "label_smoothed_cross_entropy, which is the same loss:",
            obstacles(inner),
        )
        if not reduce or has_hooks(inner.decoder.output_projection):
            return super().forward(model, sample, reduce)
        target = inner.get_targets(sample, None)
        head = functools.partial(self._sums, target)
        sums, total = model(**sample["net_input"], output_head=head)
        sample_size = target.size(0) if self.sentence_avg else sample["ntokens"]
        logging_output = {
            "loss": sums.loss.data,
            "nll_loss": sums.nll_loss.data,
            "ntokens": sample["ntokens"],
            "nsentences": target.size(0),
            "sample_size": sample_size,
        }
        if self.report_accuracy:
            logging_output["n_correct"] = sums.correct.item()
            logging_output["total"] = total
        return sums.loss, sample_size, logging_output

    def _sums(self, target: Tensor, features: Tensor, weight: Tensor) -> tuple[Sums, int]:
        """Return the sums over the positions that count, and how many these are.

        Args:
            target: B x T.
            features: B x T x C.
            weight: V x C.
        """
        counts = target.ne(self.padding_idx)
        counts[:, : self.ignore_prefix_size] = False
        places = counts.reshape(-1).nonzero()[:, 0]
        sums = fused_loss(
            features.reshape(-1, features.size(-1)).index_select(0, places),
            weight,
            target.reshape(-1).index_select(0, places),
            self.eps,
            self.report_accuracy,
        )
        return sums, len(places)


# checkpoints hold the name of the criterion's class, and fairseq does not go on with another one
FusedLabelSmoothedCrossEntropyCriterion.__name__ = LabelSmoothedCrossEntropyCriterion.__name__


def obstacles(model: Any) -> list[str]:
    """Return why the loss of a model cannot be computed from features and one matrix."""
    if not isinstance(model, AdminTransformerModel):
        return [f"it is a {type(model).__name__}, not an --arch admin_transformer"]
    decoder, reasons = model.decoder, []
    if decoder.adaptive_softmax is not None:
        return ["--adaptive-softmax-cutoff: an adaptive softmax has no output projection"]
    projection = decoder.output_projection
    if type(projection) is not nn.Linear:
        reasons.append(f"its output projection is a {type(projection).__name__}")
    elif projection.bias is not None:
        reasons.append("its output projection has a bias")
    for module, ours, names in (
        (model, AdminTransformerModel, _MODEL_METHODS),
        (decoder, AdminTransformerDecoder, _DECODER_METHODS),
    ):
        for name in names:
            if name in vars(module) or getattr(type(module), name) is not getattr(ours, name):
                reasons.append(f"its {type(module).__name__} has a {name}() of its own")
    return reasons


def _unwrap(model: Any) -> Any:
    """Return the model inside wrappers for several processes."""
    while not isinstance(model, AdminTransformerModel) and isinstance(
        getattr(model, "module", None), nn.Module
    ):
        model = model.module
    return model
