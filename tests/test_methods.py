"""The table of methods: complete, the one source of words, and enough for a new method."""

import argparse
import re
import subprocess
import sys

import pytest
import torch
from fairseq import options as fairseq_options
from omegaconf import OmegaConf

from admin_fairseq import init_types, rules, starting
from admin_fairseq.checkpoints import load_checkpoint
from admin_fairseq.errors import AdminError
from admin_fairseq.init_types import METHODS, Method, find_method, method_of
from admin_fairseq.model import AdminTransformerModel
from admin_fairseq.residual import OmegaResidual
from admin_fairseq.sites import named_sites
from tests.helpers import REPOSITORY, TRAIN_FLAGS, USER_DIR, arguments, build, build_from, task

NORMALIZE_BEFORE = ["--encoder-normalize-before", "--decoder-normalize-before"]


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.name)
def test_every_record_is_complete(method):
    assert method.label and method.name in starting.EQUATIONS
    assert set(method.refuses) <= set(rules.REASONS)
    assert set(method.stores) <= set(init_types.SCALES)
    model = build(**method.flags)
    assert method_of(model.flags) is method and method_of(model.cfg) is method
    found = {name.rpartition(".")[2] for name in model.state_dict()} & set(init_types.SCALES)
    assert found == {scale for scale, flag in method.stores.items() if not flag}
    norms = {name for name in model.encoder.layers[0].state_dict() if "layer_norm" in name}
    assert bool(norms) == method.has_layer_norms
    if method.closed_form:
        scale = named_sites(model)["encoder.layers.0.ffn_residual"].shortcut_scale
        expected = torch.tensor(method.closed_form(model.flags, "encoder"))
        torch.testing.assert_close(torch.as_tensor(scale).detach().mean(), expected)


def test_words_are_of_one_method_each():
    words = init_types.init_type_words()
    assert len(words) == len(set(words))
    assert [find_method(word) for word in words] == [m for m in METHODS for _ in m.words]
    for name, alias in (
        ("default", "post-ln"),
        ("adaptive", "admin"),
        ("rezero_postln", "rezero-postln"),
    ):
        assert find_method(alias) is find_method(name)
    with pytest.raises(AdminError, match="default or post-ln, pre-ln, adaptive or admin"):
        find_method("Admin")


def test_the_help_tells_every_method():
    parser = argparse.ArgumentParser()
    AdminTransformerModel.add_args(parser)
    text = " ".join(parser.format_help().split())
    for word in init_types.init_type_words():
        assert re.search(rf"(?<![\w-]){word}(?![\w-])", text), word


def parse(*words):
    """Flags as fairseq-train parses them."""
    parser = fairseq_options.get_training_parser()
    command = ["data", "--arch", "admin_transformer_tiny", *words]
    return fairseq_options.parse_args_and_arch(parser, command)


@pytest.mark.parametrize("word", init_types.init_type_words())
def test_every_word_passes_fairseqs_parser(word):
    args = parse("--init-type", word)
    method = method_of(args)
    if method.needs_profile:
        assert word in method.words
        return
    build_from(args_of_a_small_model(args), task())
    assert args.init_type == method.flags["init_type"]
    assert args.encoder_normalize_before == args.decoder_normalize_before == (word == "pre-ln")


def args_of_a_small_model(args):
    """What fairseq-train adds from the task, with a small model."""
    args.max_source_positions = args.max_target_positions = 64
    args.encoder_layers = args.decoder_layers = 2
    return args


def test_the_flags_of_a_method_say_the_same_as_its_word():
    for method in METHODS:
        assert method_of(parse(*method.train_flags)) is method


def test_hydras_configuration_stores_what_the_alias_stands_for():
    cfg = OmegaConf.create(vars(arguments(init_type="pre-ln")))
    OmegaConf.set_struct(cfg, True)
    AdminTransformerModel.build_model(cfg, task())
    assert cfg.init_type == "default"
    assert cfg.encoder_normalize_before is cfg.decoder_normalize_before is True


@pytest.mark.parametrize(
    "arch, flags",
    [
        ("admin_transformer", dict(encoder_normalize_before=True, decoder_normalize_before=True)),
        ("admin_transformer_wmt_en_de_big_t2t", {}),
    ],
)
def test_post_ln_is_not_pre_ln(arch, flags):
    with pytest.raises(AdminError, match="--init-type post-ln cannot") as error:
        build(arch, init_type="post-ln", **flags)
    message = str(error.value)
    assert "--decoder-normalize-before" in message and "Pre-LN is --init-type pre-ln" in message
    build(arch, init_type="pre-ln", **flags)
    build(arch, init_type="default", **flags)


@pytest.fixture
def ninth(monkeypatch):
    """A method that is added by one record and its equation."""
    method = Method(
        name="halved",
        label="Halved",
        flags={"init_type": "halved", **init_types.POST_LN},
        aliases=("half",),
        stores={"omega": ""},
        closed_form=lambda cfg, stack: 0.5,
        refuses=("normalize_before",),
    )
    monkeypatch.setattr(init_types, "METHODS", (*METHODS, method))
    monkeypatch.setattr(starting, "EQUATIONS", dict(starting.EQUATIONS))

    @starting.equation_of("halved")
    def halved(layer, cfg, stack):
        return lambda: OmegaResidual(layer.embed_dim, init_types.closed_form(cfg, stack))

    return method


def test_a_ninth_method_is_a_record_and_its_equation(ninth):
    model = build(init_type="half")
    assert model.flags.init_type == "halved" and method_of(model.cfg) is ninth
    for site in named_sites(model).values():
        assert torch.equal(site.omega, torch.full((16,), 0.5))
    with pytest.raises(
        AdminError, match="--init-type halved cannot work with:.*\n.*--encoder-norm"
    ):
        build(init_type="halved", encoder_normalize_before=True)
    with pytest.raises(AdminError, match="--init-type adaptive, or analytic, or halved"):
        build(init_type="default").load_state_dict(model.state_dict())
    assert "halved" in init_types.init_type_words()


@pytest.mark.subprocess
@pytest.mark.parametrize("module", ["init_types", "sites"])
def test_the_tables_need_no_torch(module):
    code = (
        "import sys; sys.argv = ['admin-fairseq']; "
        f"import admin_fairseq.{module}; "
        "print([name for name in ('torch', 'fairseq', 'numpy') if name in sys.modules])"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == "[]"


@pytest.mark.slow
@pytest.mark.subprocess
def test_fairseq_train_takes_the_words(warm, data_bin, tmp_path):
    """Checkpoints store what they always did, whatever word the command line had."""

    def train(folder, *words):
        command = ["fairseq-train", data_bin, "--user-dir", USER_DIR, "--cpu", *TRAIN_FLAGS]
        warm.run(*command, "--save-dir", tmp_path / folder, "--max-update", "1", *words)
        return load_checkpoint(tmp_path / folder / "checkpoint_last.pt")

    post_ln = train("post", "--init-type", "post-ln")
    assert post_ln["cfg"]["model"].init_type == "default"
    assert not post_ln["cfg"]["model"].encoder_normalize_before

    pre_ln = train("pre", "--init-type", "pre-ln")
    flags = pre_ln["cfg"]["model"]
    assert flags.init_type == "default"
    assert flags.encoder_normalize_before and flags.decoder_normalize_before
    spelled_out = train("pre-by-flags", "--init-type", "default", *NORMALIZE_BEFORE)
    assert all(torch.equal(w, spelled_out["model"][name]) for name, w in pre_ln["model"].items())

    auto = train("auto", "--init-type", "adaptive-auto")
    assert auto["cfg"]["model"].init_type == "adaptive-auto"
    with_profile = ["--admin-profile", tmp_path / "auto" / "admin.profile"]
    admin = train("admin", "--init-type", "admin", *with_profile)
    assert admin["cfg"]["model"].init_type == "adaptive"
    assert len(admin["cfg"]["model"].admin_omega) == 10
