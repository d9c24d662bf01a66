"""The ``admin_transformer`` architectures: fairseq's ``transformer`` with Admin's residual sites."""

from fairseq.dataclass.utils import gen_parser_from_dataclass
from fairseq.distributed import fsdp_wrap
from fairseq.models import register_model, register_model_architecture
from fairseq.models.transformer import TransformerDecoderBase, TransformerEncoderBase, TransformerModel
from fairseq.models.transformer.transformer_legacy import (
    base_architecture,
    transformer_iwslt_de_en,
    transformer_vaswani_wmt_en_de_big,
    transformer_vaswani_wmt_en_fr_big,
    transformer_wmt_en_de_big,
    transformer_wmt_en_de_big_t2t,
)
from fairseq.modules.checkpoint_activations import checkpoint_wrapper

from . import first_step, init_types, omega_init, options, trace
from .layers import AdminDecoderLayer, AdminEncoderLayer


class AdminTransformerEncoder(TransformerEncoderBase):
    """fairseq's encoder over :class:`AdminEncoderLayer`."""

    def build_encoder_layer(self, cfg):
        return wrap_layer(AdminEncoderLayer(cfg, return_fc=self.return_fc), cfg)


class AdminTransformerDecoder(TransformerDecoderBase):
    """fairseq's decoder over :class:`AdminDecoderLayer`."""

    def build_decoder_layer(self, cfg, no_encoder_attn=False):
        return wrap_layer(AdminDecoderLayer(cfg, no_encoder_attn), cfg)


def wrap_layer(layer, cfg):
    """Wrap a layer for activation checkpointing as fairseq wraps its own."""
    if cfg.checkpoint_activations:
        layer = checkpoint_wrapper(layer, offload_to_cpu=cfg.offload_activations)
    return fsdp_wrap(layer, min_num_params=0 if cfg.checkpoint_activations else cfg.min_params_to_wrap)


@register_model("admin_transformer")
class AdminTransformerModel(TransformerModel):
    """fairseq's ``transformer``, with its flags and weights, plus ``--init-type``.

    Registered in fairseq's legacy way on purpose: with ``dataclass=`` and the nested
    ``TransformerConfig``, fairseq drops ``--encoder-layers`` and the like from the command line.
    """

    restored = False  # whether weights were loaded: then omega is what the checkpoint says

    @classmethod
    def hub_models(cls):
        return {}  # fairseq's published models are not Admin's

    @classmethod
    def add_args(cls, parser):
        super().add_args(parser)
        gen_parser_from_dataclass(parser, options.AdminOptions())

    @classmethod
    def build_model(cls, args, task):
        """Build the model and start its omegas as ``--init-type`` says.

        Raises:
            AdminError: if flags contradict each other, or the profile is missing or does not fit.
        """
        stored, args = args, options.complete(args)
        options.check(args)
        model = super().build_model(args, task)
        model.flags = args  # as the command line has them; fairseq's model.cfg nests them
        if args.trace_interval:
            trace.trace_training(model, args, task)
        if args.freeze_first_omega:
            omega_init.freeze_first(model)
        if args.init_type == "adaptive":
            options.store_omega(stored, omega_init.start(model, args))
        elif args.init_type in ("adaptive-profiling", "adaptive-auto"):
            first_step.profile_at_first_step(model, args, task)
        return model

    @classmethod
    def build_encoder(cls, cfg, src_dict, embed_tokens):
        return AdminTransformerEncoder(cfg, src_dict, embed_tokens)

    @classmethod
    def build_decoder(cls, cfg, tgt_dict, embed_tokens):
        return AdminTransformerDecoder(
            cfg, tgt_dict, embed_tokens, no_encoder_attn=cfg.no_cross_attention
        )

    def load_state_dict(self, state_dict, *args, **kwargs):
        """Load as any model does.

        Raises:
            AdminError: if the weights were trained with another kind of residual sites.
        """
        init_types.check_scales(self, state_dict)
        result = super().load_state_dict(state_dict, *args, **kwargs)
        self.restored = True
        return result


def register_as_fairseq(names_and_flags):
    """Register ``admin_NAME`` with what fairseq's own ``NAME`` sets."""
    for name, set_flags in names_and_flags.items():
        register_model_architecture("admin_transformer", f"admin_{name}")(set_flags)


register_as_fairseq(
    {
        "transformer": base_architecture,
        "transformer_iwslt_de_en": transformer_iwslt_de_en,
        "transformer_wmt_en_de": base_architecture,
        "transformer_wmt_en_de_big": transformer_wmt_en_de_big,
        "transformer_vaswani_wmt_en_de_big": transformer_vaswani_wmt_en_de_big,
        "transformer_vaswani_wmt_en_fr_big": transformer_vaswani_wmt_en_fr_big,
        "transformer_wmt_en_de_big_t2t": transformer_wmt_en_de_big_t2t,  # Pre-LN: not with --init-type adaptive*
    }
)


@register_model_architecture("admin_transformer", "admin_transformer_tiny")
def admin_transformer_tiny(args):
    """4 + 4 layers, C 128, ffn 256, 4 heads: the size of published Multi30k baselines."""
    args.encoder_embed_dim = getattr(args, "encoder_embed_dim", 128)
    args.encoder_ffn_embed_dim = getattr(args, "encoder_ffn_embed_dim", 256)
    args.encoder_layers = getattr(args, "encoder_layers", 4)
    args.encoder_attention_heads = getattr(args, "encoder_attention_heads", 4)
    args.decoder_layers = getattr(args, "decoder_layers", 4)
    args.decoder_attention_heads = getattr(args, "decoder_attention_heads", 4)
    base_architecture(args)
