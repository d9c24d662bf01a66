"""The ``admin_transformer`` architectures: fairseq's ``transformer`` with Admin's residual sites.

Here a model is built, and nothing else: what a training does to it is in ``training``.
"""

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

from . import options, rules
from .errors import AdminError, raise_all
from .init_types import measures, method_of
from .layers import FASTPATH_COPIES, AdminDecoderLayer, AdminEncoderLayer
from .profile import fill as omega_init
from .residual import named_sites
from .weights import check_scales, depths, differences


class AdminTransformerEncoder(TransformerEncoderBase):
    """fairseq's encoder over :class:`AdminEncoderLayer`."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.dropout_module.module_name = (
            "TransformerEncoder"  # what --retain-dropout-modules calls it
        )

    def build_encoder_layer(self, cfg):
        return wrap_layer(AdminEncoderLayer(cfg, return_fc=self.return_fc), cfg)

    def upgrade_state_dict_named(self, state_dict, name):
        """Bring weights of older releases up to date, as fairseq does."""
        keep_final_norm(self, state_dict, name)
        return super().upgrade_state_dict_named(state_dict, name)


class AdminTransformerDecoder(TransformerDecoderBase):
    """fairseq's decoder over :class:`AdminDecoderLayer`."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.dropout_module.module_name = "TransformerDecoder"

    def build_decoder_layer(self, cfg, no_encoder_attn=False):
        return wrap_layer(AdminDecoderLayer(cfg, no_encoder_attn), cfg)

    def upgrade_state_dict_named(self, state_dict, name):
        """Bring weights of older releases up to date, as fairseq does.

        fairseq adds an output projection where the embedding is shared, also to an adaptive softmax, which has
        none: such checkpoints could not be loaded.
        """
        keep_final_norm(self, state_dict, name)
        super().upgrade_state_dict_named(state_dict, name)
        if self.adaptive_softmax is not None:
            state_dict.pop(f"{name}.output_projection.weight", None)
        return state_dict


def keep_final_norm(stack, state_dict, name):
    """Say that weights are today's where they have Pre-LN's final LayerNorm.

    fairseq takes weights without a ``version`` for those of an old release, which had no such LayerNorm, and drops
    it; its EMA of weights is without.
    """
    if stack.layer_norm is not None and f"{name}.layer_norm.weight" in state_dict:
        state_dict.setdefault(f"{name}.version", torch.Tensor([3]))


def wrap_layer(layer, cfg):
    """Wrap a layer for activation checkpointing as fairseq wraps its own."""
    if cfg.checkpoint_activations:
        layer = checkpoint_wrapper(layer, offload_to_cpu=cfg.offload_activations)
    return fsdp_wrap(
        layer, min_num_params=0 if cfg.checkpoint_activations else cfg.min_params_to_wrap
    )


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
        """Build the model; ``--init-type adaptive`` fills its omegas from the profile.

        Raises:
            AdminError: if flags contradict each other, or the profile is missing or does not fit.
        """
        stored, args = args, options.complete(args)
        rules.check(args)
        options.canonicalize(args, stored)
        with options.embeddings_from_checkpoint(args):
            model = super().build_model(args, task)
        model.flags = args  # as the command line has them; fairseq's model.cfg nests them
        if args.freeze_first_omega:
            omega_init.freeze_first(model)
        if measures(args):
            model.register_forward_pre_hook(refuse_unmeasured)
        elif method_of(args).needs_profile:
            options.store(stored, {"admin_omega": omega_init.start(model, args)})
        return model

    @classmethod
    def build_encoder(cls, cfg, src_dict, embed_tokens):
        return AdminTransformerEncoder(cfg, src_dict, embed_tokens)

    @classmethod
    def build_decoder(cls, cfg, tgt_dict, embed_tokens):
        return AdminTransformerDecoder(
            cfg, tgt_dict, embed_tokens, no_encoder_attn=cfg.no_cross_attention
        )

    def load_state_dict(self, state_dict, strict=True, model_cfg=None, args=None):
        """Load as any model does.

        Raises:
            AdminError: if the weights were trained with another kind of residual sites, or, if ``strict``, are of
                another depth, size or vocabulary.
        """
        check_scales(self, state_dict)
        if strict:
            check_fit(self, state_dict, model_cfg)
        result = super().load_state_dict(state_dict, strict, model_cfg, args)
        self.restored = True
        return result


def refuse_unmeasured(model, inputs):
    """Refuse to train with omegas that were not measured yet; a forward pre-hook.

    fairseq's trainer measures before the first step (see ``training``). A training loop of one's own would go on
    with omega = 1, which is plain Post-LN.

    Raises:
        AdminError: with the lines that such a loop needs.
    """
    if not (model.training and torch.is_grad_enabled()):
        return
    omegas = [site.omega for site in named_sites(model).values()]
    if not model.restored and all(bool((omega == 1).all()) for omega in omegas):
        raise AdminError(
            f"--init-type {model.flags.init_type}: this model is trained before its omegas were measured, which only "
            "fairseq-train's trainer does by itself. In a training loop of your own, before the first step and on its batch:\n"
            "  from admin_fairseq.profiling import profile_omega\n"
            "  from admin_fairseq.omega_init import apply_profile\n"
            "  apply_profile(model, profile_omega(model, sample))"
        )


def check_fit(model, state_dict, model_cfg=None):
    """Refuse weights of another depth, size or vocabulary in one message, where torch lists every name.

    Raises:
        AdminError: with the first differences.
    """
    if any(getattr(model_cfg, f"{stack}_layers_to_keep", None) for stack in ("encoder", "decoder")):
        return  # fairseq leaves layers out of the weights after this
    theirs = dict(state_dict)
    model.upgrade_state_dict(theirs)
    theirs = {
        name: value
        for name, value in theirs.items()
        if name.rpartition(".")[2] not in FASTPATH_COPIES
    }
    ours = model.state_dict()
    problems = differences(ours, theirs)
    if depths(ours) != depths(theirs):
        problems.insert(
            0, f"{depths(theirs)} layers in the checkpoint, {depths(ours)} in the model"
        )
    raise_all(
        "the checkpoint is not of this model; train with its architecture and on a data-bin with its dictionaries "
        "(fairseq-preprocess --srcdict --tgtdict):",
        problems,
    )


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
