"""Encoder and decoder layers: fairseq's own, with a named residual site per connection.

fairseq's layers send every residual connection through one method, ``residual_connection``, that
does not know which connection it serves. So each ``forward`` first lines up this call's sites in
order, ``residual_connection`` takes the next one, and none may be left over at the end. The line
is laid anew at every call: after an exception half-way through a layer (fairseq swallows CUDA's
out-of-memory errors and goes on) the next call is right again.
"""

from fairseq.modules.transformer_layer import (
    TransformerDecoderLayerBase,
    TransformerEncoderLayerBase,
)
from torch import nn

from .starting import add_sites

# fairseq 0.12.2 keeps a second copy of a layer's weights under these names, for its fused evaluation path
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

    def line_up(self, *sites):
        self._sites_ahead = list(sites)

    def residual_connection(self, x, residual):
        return self._sites_ahead.pop(0)(x, residual)

    def check_all_used(self):
        if self._sites_ahead:
            raise RuntimeError(
                f"{type(self).__name__}: fairseq's forward left {len(self._sites_ahead)} residual "
                "site(s) unused; this fairseq release lays out its layers in another way"
            )


def name_dropout(layer, name):
    """Give a layer's dropout the name that ``--retain-dropout-modules`` knows it by in fairseq's documentation."""
    layer.dropout_module.module_name = layer.activation_dropout_module.module_name = name


class AdminEncoderLayer(ResidualSites, TransformerEncoderLayerBase):
    """Encoder layer with the sites ``self_attn_residual`` and ``ffn_residual``."""

    def __init__(self, cfg, return_fc=False):
        super().__init__(cfg, return_fc=return_fc)
        # fairseq 0.12.2's fused path skips residual_connection in evaluation mode: omega would be ignored
        self.can_use_fastpath = False
        for name in FASTPATH_COPIES:
            self._parameters.pop(name, None)
        name_dropout(self, "TransformerEncoderLayer")
        add_sites(self, cfg, "encoder", ["self_attn_residual", "ffn_residual"])

    def forward(self, x, *args, **kwargs):
        """x: T x B x C. Arguments and result are those of fairseq's encoder layer."""
        self.line_up(self.self_attn_residual, self.ffn_residual)
        out = super().forward(x, *args, **kwargs)
        self.check_all_used()
        return out

    def _load_from_state_dict(self, state_dict, prefix, *args, **kwargs):
        """Load as any module does; drop what fairseq 0.12.2 stored twice."""
        for name in FASTPATH_COPIES:
            state_dict.pop(prefix + name, None)
        nn.Module._load_from_state_dict(self, state_dict, prefix, *args, **kwargs)


class AdminDecoderLayer(ResidualSites, TransformerDecoderLayerBase):
    """Decoder layer with the sites ``self_attn_residual``, ``encoder_attn_residual``, ``ffn_residual``."""

    def __init__(self, cfg, no_encoder_attn=False, **kwargs):
        super().__init__(cfg, no_encoder_attn, **kwargs)
        name_dropout(self, "TransformerDecoderLayer")
        names = ["self_attn_residual", "encoder_attn_residual", "ffn_residual"]
        if no_encoder_attn:
            names.remove("encoder_attn_residual")
        add_sites(self, cfg, "decoder", names)

    def forward(self, x, encoder_out=None, *args, **kwargs):
        """x: T x B x C. Arguments and result are those of fairseq's decoder layer."""
        if self.encoder_attn is not None and encoder_out is not None:
            self.line_up(self.self_attn_residual, self.encoder_attn_residual, self.ffn_residual)
        else:
            self.line_up(self.self_attn_residual, self.ffn_residual)
        out = super().forward(x, encoder_out, *args, **kwargs)
        self.check_all_used()
        return out
