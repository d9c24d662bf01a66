"""fairseq's multi-head attention, with one matrix product for q, k and v, over torch's own kernel.

Parameters, their names and the incremental state are fairseq's, and so are the results, to rounding
(and but for the masks of dropout). Whatever the kernel does not do goes fairseq's way.

T: queries; S: keys; B: batch; H: heads; C: channels; D = C / H.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from fairseq.modules import MultiheadAttention
from torch import Tensor, nn

from .fused_dropout import drop

State = dict[str, Any]


class CausalMask:
    """What the layers of a decoder know its mask of later positions by, without looking into it.

    Attributes:
        given: the mask that the decoder handed to its layers, T x T; None before.
    """

    given: Tensor | None = None

    def is_it(self, mask: Tensor) -> bool:
        """Whether ``mask`` is the decoder's: the same memory, seen in the same way."""
        return (
            self.given is not None
            and mask.data_ptr() == self.given.data_ptr()
            and mask.shape == self.given.shape
            and mask.stride() == self.given.stride()
        )


class FusedAttention(MultiheadAttention):
    """fairseq's attention, which a model made with ``--fused-layers`` takes for its own.

    Attributes:
        causal: knows the decoder's mask of later positions; None elsewhere.
    """

    causal: CausalMask | None = None

    def forward(
        self,
        query: Tensor,
        key: Tensor | None,
        value: Tensor | None,
        key_padding_mask: Tensor | None = None,
        incremental_state: dict[str, State] | None = None,
        need_weights: bool = True,
        static_kv: bool = False,
        attn_mask: Tensor | None = None,
        before_softmax: bool = False,
        need_head_weights: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        """Arguments and result are those of fairseq's attention: T x B x C, and weights."""
        saved = None
        if incremental_state is not None:
            saved = self._get_input_buffer(incremental_state)
        wants_more = need_weights or need_head_weights or before_softmax
        if not wants_more and self._is_plain(query):
            if self._is_self_attention(query, key, value, key_padding_mask, attn_mask, saved):
                return self._of_itself(query, key_padding_mask, attn_mask, incremental_state), None
            if self._is_cross_attention(key, value, static_kv, attn_mask, saved):
                return self._of_memory(query, key, key_padding_mask, incremental_state), None
        attended: tuple[Tensor, Tensor | None] = super().forward(
            query,
            key,
            value,
            key_padding_mask=key_padding_mask,
            incremental_state=incremental_state,
            need_weights=need_weights,
            static_kv=static_kv,
            attn_mask=attn_mask,
            before_softmax=before_softmax,
            need_head_weights=need_head_weights,
        )
        return attended

    def _is_plain(self, query: Tensor) -> bool:
        """Whether this attention has nothing that must see or change its parts."""
        if self.use_xformers or self.onnx_trace or self.skip_embed_dim_check:
            return False
        if self.bias_k is not None or self.add_zero_attn or query.device.type == "xla":
            return False
        # noise on weights is a hook, and a watched or replaced projection must be called
        return all(_is_plain_linear(part) for part in (self.q_proj, self.k_proj, self.v_proj))

    def _is_self_attention(
        self,
        query: Tensor,
        key: Tensor | None,
        value: Tensor | None,
        key_padding_mask: Tensor | None,
        attn_mask: Tensor | None,
        saved: State | None,
    ) -> bool:
        """Whether a call attends to its own input, in a way that is known here."""
        if not self.self_attention or key is not query or value is not query:
            return False
        if saved is None:
            return attn_mask is None or (attn_mask.is_floating_point() and attn_mask.dim() == 2)
        # masks that grow with the sentence are left to fairseq
        masks = (key_padding_mask, attn_mask, saved.get("prev_key_padding_mask"))
        return all(mask is None for mask in masks)

    def _is_cross_attention(
        self,
        key: Tensor | None,
        value: Tensor | None,
        static_kv: bool,
        attn_mask: Tensor | None,
        saved: State | None,
    ) -> bool:
        """Whether a call attends to the encoder's output, in a way that is known here."""
        if not self.encoder_decoder_attention or not static_kv or attn_mask is not None:
            return False
        return (key is not None and key is value) or (saved is not None and "prev_key" in saved)

    def _of_itself(
        self,
        x: Tensor,
        padding: Tensor | None,
        attn_mask: Tensor | None,
        incremental_state: dict[str, State] | None,
    ) -> Tensor:
        """Self-attention; x: T x B x C, padding: B x T, attn_mask: T x T, to be added."""
        joint = self._joint(incremental_state)
        q, k, v = self._project(x, *joint)
        if incremental_state is not None:
            saved = self._get_input_buffer(incremental_state)
            if "prev_key" in saved:
                k = torch.cat([saved["prev_key"], k], dim=2)
                v = torch.cat([saved["prev_value"], v], dim=2)
            self._keep(incremental_state, k, v, None)
        is_causal = padding is None and attn_mask is not None and self._is_causal(attn_mask)
        return self._finish(self._attend(q, k, v, _mask(padding, attn_mask, q), is_causal), x)

    def _of_memory(
        self,
        x: Tensor,
        memory: Tensor | None,
        padding: Tensor | None,
        incremental_state: dict[str, State] | None,
    ) -> Tensor:
        """Cross-attention; x: T x B x C, memory: S x B x C of the encoder, padding: B x S.

        In a beam search the sentence's hypotheses share keys and values, which have a smaller B.
        """
        saved: State = {}
        if incremental_state is not None:
            saved = self._get_input_buffer(incremental_state)
        if "prev_key" in saved:
            k, v = saved["prev_key"], saved["prev_value"]
            padding = saved.get("prev_key_padding_mask")
        else:
            assert memory is not None  # it is given until keys and values are kept
            if self.beam_size > 1 and memory.size(1) == x.size(1):
                memory = memory[:, :: self.beam_size]
                padding = padding[:: self.beam_size] if padding is not None else None
            k, v = self._project(memory, *_joined((self.k_proj, self.v_proj)))
            if incremental_state is not None:
                k, v = self._keep(incremental_state, k, v, padding)
        sentences = k.size(0)
        # all queries of a sentence in one row: T x (B, beam) x C -> B x H x (T, beam) x D
        q = F.linear(x, self.q_proj.weight, self.q_proj.bias)
        q = q.view(x.size(0), sentences, -1, self.num_heads, self.head_dim)
        q = q.permute(1, 3, 0, 2, 4).flatten(2, 3)
        return self._finish(self._attend(q, k, v, _mask(padding, None, q), False), x)

    def _joint(self, incremental_state: dict[str, State] | None) -> tuple[Tensor, Tensor]:
        """Return weight, 3C x C, and bias of q, k and v; a decoding puts them together once."""
        parts = (self.q_proj, self.k_proj, self.v_proj)
        if incremental_state is None:
            return _joined(parts)
        kept = self.get_incremental_state(incremental_state, "joint_projection")
        if kept is None:
            weight, bias = _joined(parts)
            kept = {"weight": weight, "bias": bias}
            self.set_incremental_state(incremental_state, "joint_projection", kept)
        return kept["weight"], kept["bias"]

    def _project(self, x: Tensor, weight: Tensor, bias: Tensor) -> tuple[Tensor, ...]:
        """Return the n projections of x, T x B x C, each B x H x T x D; weight: nC x C."""
        projected = F.linear(x, weight, bias)
        split = projected.view(x.size(0), x.size(1), -1, self.num_heads, self.head_dim)
        return split.permute(2, 1, 3, 0, 4).unbind(0)

    def _keep(
        self, incremental_state: dict[str, State], k: Tensor, v: Tensor, padding: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """Put keys and values, B x H x S x D, where fairseq looks for them; returns them."""
        k, v = k.contiguous(), v.contiguous()
        state = {"prev_key": k, "prev_value": v, "prev_key_padding_mask": padding}
        self._set_input_buffer(incremental_state, state)
        return k, v

    def _is_causal(self, attn_mask: Tensor) -> bool:
        return self.causal is not None and self.causal.is_it(attn_mask)

    def _attend(
        self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, is_causal: bool
    ) -> Tensor:
        """Return B x H x T x D, with dropout on the weights of attention."""
        dropout = self.dropout_module
        p = dropout.p if self.training or dropout.apply_during_inference else 0.0
        return attend(q, k, v, mask, is_causal, p)

    def _finish(self, heads: Tensor, x: Tensor) -> Tensor:
        """Project what the heads found, B x H x (T, beam) x D, to the shape of x, T x B x C."""
        sentences = heads.size(0)
        heads = heads.view(sentences, self.num_heads, x.size(0), -1, self.head_dim)
        found: Tensor = self.out_proj(heads.permute(2, 0, 3, 1, 4).reshape(x.shape))
        return found


def attend(
    q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, is_causal: bool, p: float
) -> Tensor:
    """Return softmax(q k^T / sqrt(D) + mask) v, B x H x T x D, with dropout ``p`` on the softmax.

    Args:
        q: B x H x T x D.
        k, v: B x H x S x D.
        mask: what is added to the scores; it can be broadcast to B x H x T x S.
        is_causal: whether ``mask`` hides all later positions, and nothing else.
        p: probability.
    """
    if p > 0 and q.device.type == "cpu":
        # torch's kernel for CPUs has no dropout: it would do just this, with a slower one
        scores = torch.matmul(q * (1 / math.sqrt(q.size(-1))), k.transpose(-2, -1))
        if mask is not None:
            scores = scores + mask
        return torch.matmul(drop(torch.softmax(scores, dim=-1), p), v)
    if is_causal:
        mask = None
    return F.scaled_dot_product_attention(q, k, v, mask, dropout_p=p, is_causal=is_causal)


def _joined(linears: Sequence[nn.Linear]) -> tuple[Tensor, Tensor]:
    """Return the weights of several maps as one, and their biases."""
    weight = torch.cat([linear.weight for linear in linears])
    return weight, torch.cat([linear.bias for linear in linears])


def _mask(padding: Tensor | None, attn_mask: Tensor | None, q: Tensor) -> Tensor | None:
    """Return what is added to scores, B x H x T x S; padding: B x S, attn_mask: T x S."""
    if attn_mask is not None:
        attn_mask = attn_mask.to(q.dtype)
    if padding is None:
        return attn_mask
    if attn_mask is None:
        attn_mask = q.new_zeros(1)
    return attn_mask.masked_fill(padding.bool()[:, None, None, :], -math.inf)


def _is_plain_linear(module: nn.Module) -> bool:
    """Whether a module is a linear map with a bias that nobody watches."""
    return type(module) is nn.Linear and module.bias is not None and not has_hooks(module)


def has_hooks(module: nn.Module) -> bool:
    """Whether anybody watches a module, which must then be called."""
    return bool(
        module._forward_hooks
        or module._forward_pre_hooks
        or module._backward_hooks
        or module._backward_pre_hooks
    )
