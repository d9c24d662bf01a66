"""Encoder and decoder: fairseq's own, over layers with named residual sites."""

from __future__ import annotations

from typing import Any

import torch
from fairseq.distributed import fsdp_wrap
from fairseq.models.transformer import TransformerDecoderBase, TransformerEncoderBase
from fairseq.modules.checkpoint_activations import checkpoint_wrapper
from torch import Tensor, nn

from .fused_attention import CausalMask
from .fused_layers import encode
from .layers import AdminDecoderLayer, AdminEncoderLayer
from .weights import Weights


class AdminTransformerEncoder(TransformerEncoderBase):
    """fairseq's encoder over :class:`AdminEncoderLayer`.

    Attributes:
        is_fused: whether the model was built with ``--fused-layers``.
    """

    is_fused = False

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # what --retain-dropout-modules calls it
        self.dropout_module.module_name = "TransformerEncoder"

    def build_encoder_layer(self, cfg: Any) -> nn.Module:
        """Build one layer, wrapped as fairseq wraps its own."""
        return _wrap_layer(AdminEncoderLayer(cfg, return_fc=self.return_fc), cfg)

    def forward_scriptable(
        self,
        src_tokens: Tensor,
        src_lengths: Tensor | None = None,
        return_all_hiddens: bool = False,
        token_embeddings: Tensor | None = None,
    ) -> dict[str, list[Any]]:
        """Arguments and result are those of fairseq's encoder."""
        if self.is_fused:
            return encode(self, src_tokens, return_all_hiddens, token_embeddings)
        inputs = (src_tokens, src_lengths, return_all_hiddens, token_embeddings)
        encoded: dict[str, list[Any]] = super().forward_scriptable(*inputs)
        return encoded

    def upgrade_state_dict_named(self, state_dict: Weights, name: str) -> Weights:
        """Bring weights of older releases up to date, as fairseq does; in place."""
        _keep_final_norm(self, state_dict, name)
        return super().upgrade_state_dict_named(state_dict, name)


class AdminTransformerDecoder(TransformerDecoderBase):
    """fairseq's decoder over :class:`AdminDecoderLayer`.

    Attributes:
        causal: what layers know its mask by, if the model was built with ``--fused-layers``.
    """

    causal: CausalMask | None = None

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.dropout_module.module_name = "TransformerDecoder"

    def build_decoder_layer(self, cfg: Any, no_encoder_attn: bool = False) -> nn.Module:
        """Build one layer, wrapped as fairseq wraps its own."""
        return _wrap_layer(AdminDecoderLayer(cfg, no_encoder_attn), cfg)

    def buffered_future_mask(self, tensor: Tensor) -> Tensor:
        """Return what hides later positions, T x T, to be added; tensor: T x B x C."""
        mask: Tensor = super().buffered_future_mask(tensor)
        if self.causal is not None:
            self.causal.given = mask
        return mask

    def upgrade_state_dict_named(self, state_dict: Weights, name: str) -> Weights:
        """Bring weights of older releases up to date, as fairseq does; in place.

        fairseq adds an output projection where the embedding is shared, also to an adaptive
        softmax, which has none: such checkpoints could not be loaded.
        """
        _keep_final_norm(self, state_dict, name)
        super().upgrade_state_dict_named(state_dict, name)
        if self.adaptive_softmax is not None:
            state_dict.pop(f"{name}.output_projection.weight", None)
        return state_dict


def _keep_final_norm(stack: Any, state_dict: Weights, name: str) -> None:
    """Say that weights are today's where they have Pre-LN's final LayerNorm.

    fairseq counts weights without a ``version`` as those of an old release, which had no such
    LayerNorm, and drops it; its EMA of weights is without.
    """
    if stack.layer_norm is not None and f"{name}.layer_norm.weight" in state_dict:
        # 3 is the first version that both stacks take for today's
        state_dict.setdefault(f"{name}.version", torch.Tensor([3]))


def _wrap_layer(layer: nn.Module, cfg: Any) -> nn.Module:
    """Wrap a layer for activation checkpointing as fairseq wraps its own."""
    if cfg.checkpoint_activations:
        layer = checkpoint_wrapper(layer, offload_to_cpu=cfg.offload_activations)
    # as in fairseq: FSDP must wrap whatever is checkpointed, of any size
    min_num_params = 0 if cfg.checkpoint_activations else cfg.min_params_to_wrap
    return fsdp_wrap(layer, min_num_params=min_num_params)
