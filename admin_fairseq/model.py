"""The ``admin_transformer`` architectures: fairseq's ``transformer`` with Admin's residual sites.

Here a model is built, and nothing else: what a training does to it is in ``training``.
"""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import torch
from fairseq.dataclass.utils import gen_parser_from_dataclass
from fairseq.distributed import fsdp_wrap
from fairseq.models import register_model, register_model_architecture
from fairseq.models.transformer import (
    TransformerDecoderBase,
    TransformerEncoderBase,
    TransformerModel,
)
from fairseq.models.transformer.transformer_legacy import (
    base_architecture,
    transformer_iwslt_de_en,
    transformer_vaswani_wmt_en_de_big,
    transformer_vaswani_wmt_en_fr_big,
    transformer_wmt_en_de_big,
    transformer_wmt_en_de_big_t2t,
)
from fairseq.modules.checkpoint_activations import checkpoint_wrapper
from torch import Tensor, nn

from . import options, rules
from .errors import raise_all
from .layers import FASTPATH_COPIES, AdminDecoderLayer, AdminEncoderLayer
from .weights import Weights, check_scales, depths, differences


class AdminTransformerEncoder(TransformerEncoderBase):
    """fairseq's encoder over :class:`AdminEncoderLayer`."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # what --retain-dropout-modules calls it
        self.dropout_module.module_name = "TransformerEncoder"

    def build_encoder_layer(self, cfg: Any) -> nn.Module:
        """Build one layer, wrapped as fairseq wraps its own."""
        return _wrap_layer(AdminEncoderLayer(cfg, return_fc=self.return_fc), cfg)

    def upgrade_state_dict_named(self, state_dict: Weights, name: str) -> Weights:
        """Bring weights of older releases up to date, as fairseq does; in place."""
        _keep_final_norm(self, state_dict, name)
        return super().upgrade_state_dict_named(state_dict, name)


class AdminTransformerDecoder(TransformerDecoderBase):
    """fairseq's decoder over :class:`AdminDecoderLayer`."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.dropout_module.module_name = "TransformerDecoder"

    def build_decoder_layer(self, cfg: Any, no_encoder_attn: bool = False) -> nn.Module:
        """Build one layer, wrapped as fairseq wraps its own."""
        return _wrap_layer(AdminDecoderLayer(cfg, no_encoder_attn), cfg)

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


@register_model("admin_transformer")
class AdminTransformerModel(TransformerModel):
    """fairseq's ``transformer``, with its flags and weights, plus ``--init-type``.

    Registered in fairseq's legacy way on purpose: with ``dataclass=`` and the nested
    ``TransformerConfig``, fairseq drops ``--encoder-layers`` and the like from the command line.

    Attributes:
        flags: what it was built from, as the command line has them; fairseq's ``cfg`` nests them.
        restored: whether weights were loaded: then omega is what the checkpoint says.
        omegas_seen: whether a training pass has found omegas that somebody set.
    """

    #: called with every model that was built: what is hung on to models from outside
    when_built: ClassVar[list[Callable[[AdminTransformerModel], None]]] = []

    flags: Namespace
    restored = False
    omegas_seen = False

    @classmethod
    def hub_models(cls) -> dict[str, Any]:
        """Return none: fairseq's published models are not Admin's."""
        return {}

    @classmethod
    def add_args(cls, parser: ArgumentParser) -> None:
        """Add fairseq's flags of a Transformer, and the plugin's."""
        super().add_args(parser)
        gen_parser_from_dataclass(parser, options.AdminOptions())

    @classmethod
    def build_model(cls, args: Any, task: Any) -> AdminTransformerModel:
        """Build the model. Its omegas are 1 until a profile or a checkpoint says what they are.

        Args:
            args: fairseq's Namespace of flags, or hydra's configuration; completed in place.
            task: fairseq's, for its dictionaries.

        Raises:
            AdminError: if flags contradict each other.
        """
        # under hydra two objects: fairseq stores its configuration, and the model reads a Namespace
        stored, args = args, options.complete(args)
        # while aliases still stand: post-ln refuses the normalize-before flags that default takes
        rules.check(args)
        options.canonicalize(args, stored)
        with options.embeddings_from_checkpoint(args):
            model = super().build_model(args, task)
        model.flags = args
        for hang_on in cls.when_built:
            hang_on(model)
        return model

    @classmethod
    def build_encoder(cls, cfg: Any, src_dict: Any, embed_tokens: nn.Module) -> nn.Module:
        """Build the encoder, as fairseq's ``build_model`` asks for it."""
        return AdminTransformerEncoder(cfg, src_dict, embed_tokens)

    @classmethod
    def build_decoder(cls, cfg: Any, tgt_dict: Any, embed_tokens: nn.Module) -> nn.Module:
        """Build the decoder, as fairseq's ``build_model`` asks for it."""
        no_encoder_attn = cfg.no_cross_attention
        return AdminTransformerDecoder(cfg, tgt_dict, embed_tokens, no_encoder_attn=no_encoder_attn)

    def forward(
        self,
        src_tokens: Tensor,
        src_lengths: Tensor,
        prev_output_tokens: Tensor,
        *args: Any,
        output_head: Callable[[Tensor, Tensor], Any] | None = None,
        **kwargs: Any,
    ) -> Any:
        """Arguments and result are those of fairseq's ``transformer``, but for one.

        Args:
            src_tokens, src_lengths, prev_output_tokens, args, kwargs: as fairseq's.
            output_head: called, where given, instead of projecting to logits; with the decoder's
                features, B x T x C, and the weight of its output projection, V x C. What it returns
                is the result: a loss, say, inside what wrappers for several processes see.
        """
        inputs = (src_tokens, src_lengths, prev_output_tokens, *args)
        if output_head is None:
            return super().forward(*inputs, **kwargs)
        features, _ = super().forward(*inputs, **{**kwargs, "features_only": True})
        return output_head(features, self.decoder.output_projection.weight)

    def load_state_dict(
        self,
        state_dict: Mapping[str, Any],
        strict: bool = True,
        model_cfg: Any = None,
        args: Namespace | None = None,
    ) -> Any:
        """Load as any model does.

        Raises:
            AdminError: if the weights were trained with another kind of residual sites, or, if
                ``strict``, are of another depth, size or vocabulary.
        """
        # first: of another method's weights many names differ, and a list of them would hide why
        check_scales(self.state_dict(), state_dict)
        if strict:
            _check_fit(self, state_dict, model_cfg)
        result = super().load_state_dict(state_dict, strict, model_cfg, args)
        # only now: weights that were refused have brought no omegas
        self.restored = True
        return result


def _check_fit(model: AdminTransformerModel, state_dict: Mapping[str, Any], model_cfg: Any) -> None:
    """Refuse weights of another depth, size or vocabulary in one message; torch lists every name.

    Raises:
        AdminError: with the first differences.
    """
    if any(getattr(model_cfg, f"{stack}_layers_to_keep", None) for stack in ("encoder", "decoder")):
        return  # fairseq leaves layers out of the weights after this
    # upgrading renames in place, and fairseq's own loading does it again
    upgraded = dict(state_dict)
    model.upgrade_state_dict(upgraded)
    theirs: Weights = {}
    for name, value in upgraded.items():
        # layers drop these while they load
        if name.rpartition(".")[2] not in FASTPATH_COPIES:
            theirs[name] = value
    ours = model.state_dict()
    problems = differences(ours, theirs)
    # one line that explains the many names below it
    if depths(ours) != depths(theirs):
        problems.insert(
            0, f"{depths(theirs)} layers in the checkpoint, {depths(ours)} in the model"
        )
    raise_all(
        "the checkpoint is not of this model; train with its architecture and on a data-bin with "
        "its dictionaries (fairseq-preprocess --srcdict --tgtdict):",
        problems,
    )


# names of ours are admin_ and the name of fairseq's own, with the same sizes
_FAIRSEQS_ARCHITECTURES: dict[str, Callable[[Namespace], None]] = {
    "transformer": base_architecture,
    "transformer_iwslt_de_en": transformer_iwslt_de_en,
    "transformer_wmt_en_de": base_architecture,
    "transformer_wmt_en_de_big": transformer_wmt_en_de_big,
    "transformer_vaswani_wmt_en_de_big": transformer_vaswani_wmt_en_de_big,
    "transformer_vaswani_wmt_en_fr_big": transformer_vaswani_wmt_en_fr_big,
    # Pre-LN, and so for --init-type pre-ln alone
    "transformer_wmt_en_de_big_t2t": transformer_wmt_en_de_big_t2t,
}
for _name, _set_flags in _FAIRSEQS_ARCHITECTURES.items():
    register_model_architecture("admin_transformer", f"admin_{_name}")(_set_flags)


@register_model_architecture("admin_transformer", "admin_transformer_tiny")
def admin_transformer_tiny(args: Namespace) -> None:
    """4 + 4 layers, C 128, ffn 256, 4 heads: the size of published Multi30k baselines."""
    args.encoder_embed_dim = getattr(args, "encoder_embed_dim", 128)
    args.encoder_ffn_embed_dim = getattr(args, "encoder_ffn_embed_dim", 256)
    args.encoder_layers = getattr(args, "encoder_layers", 4)
    args.encoder_attention_heads = getattr(args, "encoder_attention_heads", 4)
    args.decoder_layers = getattr(args, "decoder_layers", 4)
    args.decoder_attention_heads = getattr(args, "decoder_attention_heads", 4)
    base_architecture(args)
