"""Mistakes that had many lines, or misleading ones: one message, with the way out."""

import re

import pytest
import torch
from fairseq.modules import FairseqDropout

from admin_fairseq import cli
from admin_fairseq.errors import AdminError
from admin_fairseq.profile.first_step import is_out_of_memory
from tests.helpers import TRAIN_FLAGS, USER_DIR, adaptive, build, task

OWN = """
import admin_fairseq
from admin_fairseq.layers import AdminDecoderLayer
from admin_fairseq.model import AdminTransformerDecoder, AdminTransformerModel
from fairseq.models import register_model, register_model_architecture
from fairseq.models.transformer.transformer_legacy import base_architecture
from fairseq.modules.transformer_layer import TransformerDecoderLayerBase


@register_model_architecture("admin_transformer", "my_deep")
def my_deep(args):
    args.encoder_layers = getattr(args, "encoder_layers", 3)
    base_architecture(args)


@register_model("my_model")
class MyModel(AdminTransformerModel):
    pass


register_model_architecture("my_model", "my_model")(base_architecture)


class OtherDecoder(AdminTransformerDecoder):
    def build_decoder_layer(self, cfg, no_encoder_attn=False):
        return TransformerDecoderLayerBase(cfg, no_encoder_attn)


@register_model("my_layers")
class MyLayers(AdminTransformerModel):
    @classmethod
    def build_decoder(cls, cfg, tgt_dict, embed_tokens):
        return OtherDecoder(cfg, tgt_dict, embed_tokens)


register_model_architecture("my_layers", "my_layers")(base_architecture)


class LoudLayer(AdminDecoderLayer):
    def forward(self, x, *args, **kwargs):
        x, *rest = super().forward(x, *args, **kwargs)
        return (2 * x, *rest)


class LoudDecoder(AdminTransformerDecoder):
    def build_decoder_layer(self, cfg, no_encoder_attn=False):
        return LoudLayer(cfg, no_encoder_attn)


@register_model("my_loud")
class MyLoud(AdminTransformerModel):
    @classmethod
    def build_decoder(cls, cfg, tgt_dict, embed_tokens):
        return LoudDecoder(cfg, tgt_dict, embed_tokens)


register_model_architecture("my_loud", "my_loud")(base_architecture)
"""


@pytest.fixture(scope="module")
def own(tmp_path_factory):
    folder = tmp_path_factory.mktemp("own") / "own_models"
    folder.mkdir()
    (folder / "__init__.py").write_text(OWN)
    return folder


def train_words(data_bin, folder, *more, user_dir=USER_DIR):
    words = [
        "fairseq-train",
        data_bin,
        "--user-dir",
        user_dir,
        "--cpu",
        "--save-dir",
        folder,
        *TRAIN_FLAGS,
    ]
    return [*words, "--max-update", 2, "--no-epoch-checkpoints", *more]


@pytest.fixture(scope="module")
def trained(warm, data_bin, tmp_path_factory):
    """One plain checkpoint, and one of Admin."""
    folder = tmp_path_factory.mktemp("messages")
    warm.run(*train_words(data_bin, folder / "plain", "--init-type", "default"))
    warm.run(*train_words(data_bin, folder / "admin", "--init-type", "adaptive-auto"))
    return folder


def refused(warm, *words):
    result = warm.run(*words, check=False)
    assert result.returncode == 1 and "Traceback" not in result.stdout, result.stdout[-3000:]
    message = result.stdout[result.stdout.index("admin_fairseq: error: ") :]
    assert len(message.splitlines()) < 15
    return message


def test_fine_tuning_from_another_depth(warm, data_bin, trained, tmp_path):
    words = [
        "--finetune-from-model",
        trained / "plain/checkpoint_last.pt",
        "--init-type",
        "default",
        "--encoder-layers",
        3,
    ]
    message = refused(warm, *train_words(data_bin, tmp_path, *words))
    assert "2-2 layers in the checkpoint, 3-2 in the model" in message


def test_fine_tuning_from_another_vocabulary():
    larger = build(on_task=task(50), init_type="default")
    with pytest.raises(
        AdminError,
        match=r"encoder.embed_tokens.weight is \(40, 16\), and must be \(50, 16\)",
    ) as error:
        larger.load_state_dict(build(init_type="default").state_dict())
    assert "--srcdict" in str(error.value)


def test_a_restore_file_that_is_not_there(warm, data_bin, tmp_path):
    output = warm.run(
        *train_words(data_bin, tmp_path, "--init-type", "default", "--restore-file", "x.pt")
    ).stdout
    assert "--restore-file x.pt: no such file; the training starts at the beginning" in output


def test_a_plain_checkpoint_into_admin(warm, data_bin, trained, tmp_path):
    words = [
        "--finetune-from-model",
        trained / "plain/checkpoint_last.pt",
        "--init-type",
        "adaptive",
    ]
    message = refused(warm, *train_words(data_bin, tmp_path, *words))
    assert (
        "use the init type of the training" in message
        and "without --finetune-from-model" in message
    )


def test_pre_ln_is_default():
    with pytest.raises(AdminError, match="Pre-LN is --init-type pre-ln; architectures"):
        build(init_type="adaptive", admin_omega={}, encoder_normalize_before=True)


def test_embeddings_that_are_not_there():
    with pytest.raises(AdminError, match="--encoder-embed-path gone.txt: no such file"):
        build(init_type="default", encoder_embed_path="gone.txt")


@pytest.mark.parametrize(
    "words",
    [
        "CUDA out of memory. Tried to allocate 2.00 GiB",
        "[enforce fail at alloc_cpu.cpp:117] err == 0. DefaultCPUAllocator: can't allocate memory: "
        "you tried to allocate 8 bytes",
        "DefaultCPUAllocator: not enough memory: you tried to allocate 8 bytes",
    ],
)
def test_out_of_memory_on_any_device(words):
    assert is_out_of_memory(RuntimeError(words)) and not is_out_of_memory(
        RuntimeError("shape mismatch")
    )


def test_the_real_cpu_message():
    with pytest.raises(RuntimeError) as error:
        torch.empty(2**60)
    assert is_out_of_memory(error.value)


def test_export_looks_at_the_data_first(trained, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(
        "admin_fairseq.deploy.ctranslate2_export.fold_and_compare",
        lambda *_: pytest.fail("the fold's work"),
    )
    words = [
        "export",
        "--format",
        "ctranslate2",
        trained / "admin/checkpoint_last.pt",
        tmp_path / "out",
        "--data",
        tmp_path / "wrong",
    ]
    assert cli.main([str(word) for word in words]) == 1
    error = capsys.readouterr().err
    assert f"--data {tmp_path / 'wrong'}: no such folder" in error and "language" not in error


def test_dropout_is_retained_by_the_names_of_the_documentation():
    model = adaptive()
    model.make_generation_fast_(
        retain_dropout=True,
        retain_dropout_modules=["TransformerEncoder", "TransformerEncoderLayer"],
    )
    kept = {
        name
        for name, module in model.named_modules()
        if isinstance(module, FairseqDropout) and module.apply_during_inference
    }
    assert {
        "encoder.dropout_module",
        "encoder.layers.0.dropout_module",
        "encoder.layers.1.activation_dropout_module",
    } <= kept
    assert not [name for name in kept if name.startswith("decoder")]
    model = adaptive()
    model.make_generation_fast_(
        retain_dropout=True, retain_dropout_modules=["TransformerDecoderLayer"]
    )
    assert (
        model.decoder.layers[1].dropout_module.apply_during_inference
        and not model.encoder.dropout_module.apply_during_inference
    )


@pytest.mark.parametrize("arch", ["my_deep", "my_model"])
def test_architectures_of_the_users_own(warm, data_bin, own, tmp_path, arch):
    words = ["--arch", arch, "--init-type", "adaptive-auto", "--save-interval-updates", 1]
    warm.run(*train_words(data_bin, tmp_path, *words, user_dir=own))
    last, mean = tmp_path / "checkpoint_last.pt", tmp_path / "mean.pt"
    warm.run(
        "admin-fairseq", "average", "--inputs", last, last, "--output", mean, "--user-dir", own
    )
    message = warm.run("admin-fairseq", "fold", mean, tmp_path / "stock.pt", check=False).stdout
    assert f"--arch {arch}" in message and "--user-dir" in message
    warm.run("admin-fairseq", "fold", mean, tmp_path / "stock.pt", "--user-dir", own, "--safe")
    found = []
    for path, *plugin in ((mean, "--user-dir", own), (tmp_path / "stock.pt",)):
        words = [
            "fairseq-generate",
            data_bin,
            *plugin,
            "--cpu",
            "--path",
            path,
            "--max-len-b",
            6,
            "--required-batch-size-multiple",
            1,
        ]
        found.append(re.findall(r"^H-(\d+)\t\S+\t(.*)", warm.run(*words).stdout, re.M))
    assert found[0] == found[1] and len(found[0]) == 27


def test_custom_layers_are_refused_by_name(warm, data_bin, own, tmp_path):
    warm.run(
        *train_words(
            data_bin, tmp_path / "a", "--arch", "my_layers", "--init-type", "default", user_dir=own
        )
    )
    fold = [
        "admin-fairseq",
        "fold",
        tmp_path / "a/checkpoint_last.pt",
        tmp_path / "stock.pt",
        "--user-dir",
        own,
    ]
    message = warm.run(*fold, check=False).stdout
    assert (
        "decoder.layers.0 is a fairseq.modules.transformer_layer.TransformerDecoderLayerBase"
        in message
    )
    warm.run(
        *train_words(
            data_bin,
            tmp_path / "b",
            "--arch",
            "my_loud",
            "--init-type",
            "adaptive-auto",
            user_dir=own,
        )
    )
    fold[2] = tmp_path / "b/checkpoint_last.pt"
    message = warm.run(*fold, check=False).stdout
    assert "puts out something else" in message and "own_models.LoudLayer" in message
    assert not (tmp_path / "stock.pt").exists()


def test_a_user_dir_that_is_not_there(trained, tmp_path, capsys):
    words = [
        "fold",
        trained / "admin/checkpoint_last.pt",
        tmp_path / "out.pt",
        "--user-dir",
        tmp_path / "gone",
    ]
    assert cli.main([str(word) for word in words]) == 1
    assert (
        f"--user-dir {tmp_path / 'gone'}: cannot be imported: no such folder"
        in capsys.readouterr().err
    )


def test_a_script_that_hands_over_to_fairseq(warm, data_bin, tmp_path):
    """As the ``train.py`` of fairseq's repository does, which torchrun is often given."""
    (tmp_path / "train.py").write_text(
        "from fairseq_cli.train import cli_main\n\nif __name__ == '__main__':\n    cli_main()\n"
    )
    words = train_words(data_bin, tmp_path, "--init-type", "adaptive", "--encoder-normalize-before")
    words[0:1] = ["python", tmp_path / "train.py"]
    assert "--encoder-normalize-before" in refused(warm, *words)


def test_a_program_of_somebodys_keeps_its_tracebacks(warm, tmp_path):
    """What is imported for its API changes nothing of how errors end."""
    (tmp_path / "mine.py").write_text("import admin_fairseq\nadmin_fairseq.load_profile('none')\n")
    result = warm.run("python", tmp_path / "mine.py", check=False)
    assert result.returncode == 1 and result.stdout.startswith("Traceback")
    assert result.stdout.endswith("admin_fairseq.errors.AdminError: none: no such profile\n")
