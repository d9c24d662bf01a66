"""Encoder and decoder layers: fairseq's own, with a named residual site per connection.

fairseq's layers send every residual connection through one method, ``residual_connection``, that
does not know which connection it serves. So each ``forward`` first lines up this call's sites in
order, ``residual_connection`` takes the next one, and none may be left over at the end. The line
is laid anew at every call: after an exception half-way through a layer (fairseq swallows CUDA's
out-of-memory errors and goes on) the next call is right again.
"""

from __future__ import annotations

from typing import Any

from fairseq.modules.transformer_layer import (
    TransformerDecoderLayerBase,
    TransformerEncoderLayerBase,
)
from torch import Tensor, nn

from .residual import Residual
from .sites import roles_of
from .starting import add_sites

# checkpoints of fairseq 0.12.2 have a second copy of a layer's weights under these names
FASTPATH_COPIES = (
    "in_proj_weight",
    "in_proj_bias",
    "out_proj_weight",
    "out_proj_bias",
    "fc1_weight",
    "fc1_bias",
    "fc2_weight",
    "fc2_bias",
)


class ResidualSites:
    """Mix-in that routes ``residual_connection`` to the sites of the running forward pass."""

    def line_up(self, *sites: Residual) -> None:
        """Say which sites this forward pass goes through, in order."""
        self._sites_ahead = list(sites)

    def residual_connection(self, x: Tensor, residual: Tensor) -> Tensor:
        """Add a branch to its shortcut at the next site; both T x B x C.

        fairseq's forward calls it.
        """
        return self._sites_ahead.pop(0)(x, residual)

    def check_all_used(self) -> None:
        """Assert that the forward pass went through all sites that were lined up.

        Raises:
            RuntimeError: if it did not.
        """
        if self._sites_ahead:
            raise RuntimeError(
                f"{type(self).__name__}: fairseq's forward left {len(self._sites_ahead)} residual "
                "site(s) unused; this fairseq release lays out its layers in another way"
            )


class AdminEncoderLayer(ResidualSites, TransformerEncoderLayerBase):
    """Encoder layer with the sites ``self_attn_residual`` and ``ffn_residual``."""

    def __init__(self, cfg: Any, return_fc: bool = False) -> None:
        super().__init__(cfg, return_fc=return_fc)
        _name_dropout(self, "TransformerEncoderLayer")
        add_sites(self, cfg, "encoder", [role.name for role in roles_of("encoder")])

    def forward(self, x: Tensor, *args: Any, **kwargs: Any) -> Any:
        """x: T x B x C. Arguments and result are those of fairseq's encoder layer."""
        self.line_up(self.self_attn_residual, self.ffn_residual)
        out = super().forward(x, *args, **kwargs)
        self.check_all_used()
        return out

    def _load_from_state_dict(
        self, state_dict: dict[str, Any], prefix: str, *args: Any, **kwargs: Any
    ) -> None:
        """Load as any module does; drop what fairseq 0.12.2 stored twice."""
        for name in FASTPATH_COPIES:
            # checkpoints of a stock 0.12.2 hold them; strict loading would call them unexpected
            state_dict.pop(prefix + name, None)
        # not super(): the method of 0.12.2's layer makes its second copies here
        nn.Module._load_from_state_dict(self, state_dict, prefix, *args, **kwargs)


class AdminDecoderLayer(ResidualSites, TransformerDecoderLayerBase):
    """Decoder layer with ``self_attn_residual``, ``encoder_attn_residual`` and ``ffn_residual``."""

    def __init__(self, cfg: Any, no_encoder_attn: bool = False, **kwargs: Any) -> None:
        super().__init__(cfg, no_encoder_attn, **kwargs)
        _name_dropout(self, "TransformerDecoderLayer")
        roles = roles_of("decoder", cross_attention=not no_encoder_attn)
        add_sites(self, cfg, "decoder", [role.name for role in roles])

    def forward(
        self, x: Tensor, encoder_out: Tensor | None = None, *args: Any, **kwargs: Any
    ) -> Any:
        """x: T x B x C. Arguments and result are those of fairseq's decoder layer."""
        # the condition by which fairseq's forward runs cross-attention
        if self.encoder_attn is not None and encoder_out is not None:
            self.line_up(self.self_attn_residual, self.encoder_attn_residual, self.ffn_residual)
        else:
            self.line_up(self.self_attn_residual, self.ffn_residual)
        out = super().forward(x, encoder_out, *args, **kwargs)
        self.check_all_used()
        return out


def _name_dropout(layer: Any, name: str) -> None:
    """Give a layer's dropout the name that ``--retain-dropout-modules`` knows it by."""
    layer.dropout_module.module_name = name
    layer.activation_dropout_module.module_name = name
