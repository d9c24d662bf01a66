"""What ``--fused-layers`` makes of a model: attention and dropout of its own, and no waiting.

Modules are exchanged in place, so that names, weights and the random numbers that started them stay
as they are; anything but fairseq's own modules is left alone.
"""

from __future__ import annotations

from typing import Any

import torch
from fairseq.modules import FairseqDropout, MultiheadAttention
from torch import Tensor

from .fused_attention import CausalMask, FusedAttention
from .fused_dropout import FusedDropout
from .layers import AdminDecoderLayer

_FUSED: dict[type, type] = {MultiheadAttention: FusedAttention, FairseqDropout: FusedDropout}


def fuse(model: Any) -> None:
    """Have an ``admin_transformer`` compute its layers in fewer passes; in place."""
    model.encoder.is_fused = True
    causal = model.decoder.causal = CausalMask()
    for module in model.modules():
        # instances of a user's subclasses stay: they may compute something else
        module.__class__ = _FUSED.get(type(module), type(module))
    for module in model.decoder.modules():
        if isinstance(module, FusedAttention):
            module.causal = causal
        if isinstance(module, AdminDecoderLayer):
            # the decoder asks the layer that it reads attention from; others made it for nothing
            module.need_attn = False


def encode(
    encoder: Any, src_tokens: Tensor, return_all_hiddens: bool, token_embeddings: Tensor | None
) -> dict[str, list[Any]]:
    """Do what fairseq's encoder does, asking the device once whether there is padding.

    fairseq asks it again at every layer, and waits each time until the device has caught up.

    Args:
        encoder: fairseq's, or a subclass.
        src_tokens: B x T.
        return_all_hiddens: whether the result has all layers' outputs.
        token_embeddings: B x T x C, in place of those of ``src_tokens``.

    Returns:
        What fairseq's encoder returns, bit for bit.
    """
    padding = src_tokens.eq(encoder.padding_idx)
    has_padding = src_tokens.device.type == "xla" or bool(padding.any())
    x, embedding = encoder.forward_embedding(src_tokens, token_embeddings)
    if has_padding:
        x = x * (1 - padding.unsqueeze(-1).type_as(x))
    x = x.transpose(0, 1)  # T x B x C from here on
    states, results = [x], []
    for layer in encoder.layers:
        out = layer(x, encoder_padding_mask=padding if has_padding else None)
        x, fc_result = out if isinstance(out, tuple) and len(out) == 2 else (out, None)
        states.append(x)
        results.append(fc_result)
    if encoder.layer_norm is not None:
        x = encoder.layer_norm(x)
    lengths = padding.logical_not().sum(dim=1, dtype=torch.int32).view(-1, 1)
    return {
        "encoder_out": [x],
        "encoder_padding_mask": [padding],
        "encoder_embedding": [embedding],
        "encoder_states": states if return_all_hiddens else [],
        "fc_results": results if return_all_hiddens else [],
        "src_tokens": [],
        "src_lengths": [lengths],
    }
