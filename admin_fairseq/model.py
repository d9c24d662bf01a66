"""The ``admin_transformer`` architectures: fairseq's ``transformer`` with Admin's residual sites.

Here a model is built, and nothing else: what a training does to it is in ``training``.
"""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

from fairseq.dataclass.utils import gen_parser_from_dataclass
from fairseq.models import register_model, register_model_architecture
from fairseq.models.transformer import TransformerModel
from fairseq.models.transformer.transformer_legacy import (
    base_architecture,
    transformer_iwslt_de_en,
    transformer_vaswani_wmt_en_de_big,
    transformer_vaswani_wmt_en_fr_big,
    transformer_wmt_en_de_big,
    transformer_wmt_en_de_big_t2t,
)
from torch import Tensor, nn

from . import options, rules
from .errors import raise_all
from .fused_layers import fuse
from .layers import FASTPATH_COPIES
from .stacks import AdminTransformerDecoder, AdminTransformerEncoder
from .weights import Weights, check_scales, depths, differences


@register_model("admin_transformer")
class AdminTransformerModel(TransformerModel):
    """fairseq's ``transformer``, with its flags and weights, plus ``--init-type``.

    Registered in fairseq's legacy way on purpose: with ``dataclass=`` and the nested
    ``TransformerConfig``, fairseq drops ``--encoder-layers`` and the like from the command line.

    Attributes:
        flags: what it was built from, as the command line has them; fairseq's ``cfg`` nests them.
        restored: whether weights were loaded: then omega is what the checkpoint says.
        omegas_seen: whether a profile was applied, or training has found omegas that are not 1.
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
        if args.fused_layers:
            fuse(model)
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
        # no layer has this number: what is not read, the weights of attention, is not made
        head_inputs = {"alignment_layer": -1, **kwargs, "features_only": True}
        features, _ = super().forward(*inputs, **head_inputs)
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
