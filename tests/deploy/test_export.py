"""Folded checkpoints and CTranslate2 models, through users' commands, without the plugin."""

import copy
import os
import re
import subprocess
import sys

import pytest
import torch
from fairseq import checkpoint_utils
from fairseq.models.transformer import TransformerModel

from admin_fairseq import cli
from admin_fairseq.checkpoints import load_checkpoint
from admin_fairseq.deploy import int8_noise
from admin_fairseq.deploy.compare import compare
from admin_fairseq.deploy.ctranslate2_export import put_in_place
from admin_fairseq.deploy.fold import fold_state
from admin_fairseq.deploy.int8_noise import noise_growth
from admin_fairseq.sites import SiteName, named_sites
from tests.helpers import USER_DIR, adaptive, run, train

pytestmark = pytest.mark.subprocess

GENERATE = """
import sys
from fairseq_cli.generate import cli_main
cli_main()
plugin = [name for name in sys.modules if name.startswith("admin_fairseq")]
assert not plugin, "a stock environment has no plugin"
"""


def generate(data_bin, path, user_dir=None, beam=5, **env):
    """Run fairseq-generate; without ``user_dir`` in a process that does not know the plugin."""
    command = [sys.executable, "-c", GENERATE] if user_dir is None else ["fairseq-generate"]
    command += [
        data_bin,
        "--path",
        path,
        "--beam",
        beam,
        "--max-len-b",
        "12",
        "--cpu",
        "--required-batch-size-multiple",
        "1",
    ]
    return run(*command, *(["--user-dir", user_dir] if user_dir else []), env=env).stdout


def lines(output, kind):
    column = r"\S+\t" if kind == "H" else ""
    return {
        int(number): text
        for number, text in re.findall(rf"^{kind}-(\d+)\t{column}(.*)$", output, re.M)
    }


@pytest.fixture(scope="module")
def trained(data_bin, tmp_path_factory):
    """A checkpoint of an Admin model that has learned to translate, omegas included."""
    folder = tmp_path_factory.mktemp("admin")
    flags = [
        "--max-epoch",
        "60",
        "--dropout",
        "0",
        "--no-epoch-checkpoints",
        "--disable-validation",
        "--save-interval",
        "60",
    ]
    train(data_bin, folder, "--init-type", "adaptive-auto", *flags)
    omegas = {
        name: value
        for name, value in load_checkpoint(folder / "checkpoint_last.pt")["model"].items()
        if "omega" in name
    }
    assert all(omega.std() > 0.02 for omega in omegas.values()), (
        "every omega was trained, element by element"
    )
    return folder / "checkpoint_last.pt"


@pytest.fixture(scope="module")
def translations(data_bin, trained):
    return lines(generate(data_bin, trained, USER_DIR), "H")


@pytest.fixture(scope="module")
def folded(trained):
    """The checkpoint folded, as a Namespace and as plain dictionaries."""
    outputs = {}
    for name, flags in (("usual", []), ("safe", ["--safe"])):
        outputs[name] = trained.parent / f"{name}.pt"
        outputs[name + "_log"] = run("admin-fairseq", "fold", trained, outputs[name], *flags).stdout
    return outputs


def test_fold_says_what_it_does(folded):
    log = folded["usual_log"]
    assert (
        "encoder: route c" in log
        and "decoder: route c" in log
        and "parameters beside those of omega: +" in log
    )
    found = re.search(
        r"logits differ by (\S+) at most, and by (\S+) as they are stored "
        r"\(rounding of the weights alone: (\S+)\)",
        log,
    )
    assert (
        float(found[1]) < 1e-13
        and 0 < float(found[2]) < 1e-5
        and float(found[2]) < 10 * float(found[3])
    )
    assert "Traceback" not in log and "Warning" not in log


def test_safe_needs_nothing_in_a_stock_environment(data_bin, folded, translations):
    assert lines(generate(data_bin, folded["safe"]), "H") == translations


def test_usual_is_what_fairseq_writes(data_bin, folded, translations):
    """torch >= 2.6 refuses the Namespace of fairseq's checkpoints, until it is told to trust."""
    assert (
        lines(generate(data_bin, folded["usual"], TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD="1"), "H")
        == translations
    )


def test_nothing_of_admin_is_left(folded):
    for name in ("usual", "safe"):
        state = load_checkpoint(folded[name])
        flags = state["cfg"]["model"] if name == "safe" else vars(state["cfg"]["model"])
        assert (
            flags["arch"] == "transformer"
            and flags["user_dir"] is None
            and state["cfg"]["common"]["user_dir"] is None
        )
        assert not [
            flag
            for flag in flags
            if "admin" in flag or "omega" in flag or flag in ("init_type", "trace_interval")
        ]
        assert not [
            weight for weight in state["model"] if "omega" in weight or "residual" in weight
        ]
        assert "last_optimizer_state" not in state
    read = "import sys, torch; torch.load(sys.argv[1], weights_only=True)"
    outcomes = [
        run(sys.executable, "-c", read, folded[name], check=False) for name in ("safe", "usual")
    ]
    assert outcomes[0].returncode == 0 and "argparse.Namespace" in outcomes[1].stdout


@pytest.mark.parametrize("name", ["usual", "safe"])
def test_from_pretrained_and_torchscript(data_bin, folded, name):
    hub = TransformerModel.from_pretrained(
        str(folded[name].parent), folded[name].name, str(data_bin)
    )
    assert type(hub.models[0]) is TransformerModel and hub.translate("s1 s2 s3")
    model = checkpoint_utils.load_model_ensemble([str(folded[name])], {"data": str(data_bin)})[0][
        0
    ].eval()
    tokens = torch.randint(4, 30, (3, 5))
    previous = torch.cat([torch.full((3, 1), 2), tokens[:, :-1]], 1)
    with torch.no_grad():
        expected = model(tokens, torch.full((3,), 5), previous)[0]
        torch.testing.assert_close(
            torch.jit.script(model)(tokens, torch.full((3,), 5), previous)[0], expected
        )


def test_fine_tuning_with_stock_fairseq(data_bin, folded, tmp_path):
    flags = vars(load_checkpoint(folded["usual"])["cfg"]["model"])
    command = [
        "fairseq-train",
        data_bin,
        "--cpu",
        "--save-dir",
        tmp_path,
        "--finetune-from-model",
        folded["safe"],
    ]
    command += """
        --arch transformer --encoder-layers 2 --decoder-layers 2 --encoder-embed-dim 16
        --encoder-ffn-embed-dim 32
    """.split()
    command += [
        "--encoder-attention-heads",
        "2",
        "--decoder-attention-heads",
        "2",
        "--encoder-learned-pos",
        "--decoder-learned-pos",
    ]
    command += """
        --optimizer adam --lr 1e-9 --max-tokens 256 --max-update 1 --dropout 0
        --no-epoch-checkpoints
    """.split()
    assert flags["encoder_learned_pos"] and not flags["share_all_embeddings"]
    assert "Loaded checkpoint" in run(*command).stdout
    tuned = load_checkpoint(tmp_path / "checkpoint_last.pt")["model"]
    start = load_checkpoint(folded["usual"])["model"]
    assert all(torch.allclose(value, start[name], atol=1e-6) for name, value in tuned.items())


def test_average_then_fold_and_fold_again(trained, tmp_path, capsys):
    mean, once, twice = (str(tmp_path / name) for name in ("mean.pt", "once.pt", "twice.pt"))
    assert cli.main(["average", "--inputs", str(trained), "--output", mean]) == 0
    assert cli.main(["fold", mean, once]) == 0
    assert cli.main(["fold", once, twice]) == 0, "a stock transformer is its own fold"
    states = [load_checkpoint(path)["model"] for path in (once, twice)]
    assert all(torch.equal(value, states[1][name]) for name, value in states[0].items())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_the_dtype_is_the_sources(trained, tmp_path, dtype):
    state = load_checkpoint(trained)
    state["model"] = {name: value.to(dtype) for name, value in state["model"].items()}
    torch.save(state, tmp_path / "in.pt")
    assert cli.main(["fold", str(tmp_path / "in.pt"), str(tmp_path / "out.pt")]) == 0
    weights = load_checkpoint(tmp_path / "out.pt")["model"]
    assert {value.dtype for value in weights.values()} == {dtype}


def test_checkpoints_of_the_old_layout_and_of_hydra(trained, tmp_path):
    state = load_checkpoint(trained)
    old = {**state, "args": state["cfg"]["model"]}
    del old["cfg"]
    torch.save(old, tmp_path / "old.pt")
    hydra = copy.deepcopy(state)
    hydra["cfg"]["model"] = vars(hydra["cfg"]["model"])
    torch.save(hydra, tmp_path / "hydra.pt")
    for name in ("arch", "max_source_positions", "max_target_positions"):
        del hydra["cfg"]["model"][name]  # where the configuration names +model._name alone
    torch.save(hydra, tmp_path / "hydra_name.pt")
    for name in ("old", "hydra", "hydra_name"):
        assert cli.main(["fold", str(tmp_path / f"{name}.pt"), str(tmp_path / f"{name}.out")]) == 0
        assert load_checkpoint(tmp_path / f"{name}.out")["cfg"]["model"].arch == "transformer"


def test_a_wrong_fold_is_not_written(trained, tmp_path, monkeypatch, capsys):
    readers = SiteName.readers.fget

    def without_fc1(site):
        return [reader for reader in readers(site) if not reader.endswith(".fc1")]

    monkeypatch.setattr(SiteName, "readers", property(without_fc1))
    assert cli.main(["fold", str(trained), str(tmp_path / "out.pt")]) == 1
    assert "puts out something else" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_comparison_sees_a_weight_that_is_off_by_a_little(caplog):
    model = adaptive(layers=(2, 2))
    state = copy.deepcopy(model.state_dict())
    folded = fold_state(state, model.flags)
    assert compare(model, state, model.flags, folded, "it") < 1e-6
    moved = folded.weights[
        "decoder.layers.1.fc2.bias"
    ].clone()  # of what folding does not change there is one tensor
    moved[0] += 1e-3
    folded.weights["decoder.layers.1.fc2.bias"] = moved
    with pytest.raises(RuntimeError, match="something else"):
        compare(adaptive(layers=(2, 2)), state, model.flags, folded, "it")


def refused(capsys, *words):
    assert cli.main([str(word) for word in words]) == 1
    error = capsys.readouterr().err
    assert error.count("error:") == 1 and "Traceback" not in error
    return error


def test_mistakes(trained, folded, tmp_path, capsys):
    before = trained.read_bytes()
    out = tmp_path / "out.pt"
    (tmp_path / "text.pt").write_text("no checkpoint\n")
    (tmp_path / "half.pt").write_bytes(before[: len(before) // 2])
    (tmp_path / "empty.pt").write_bytes(b"")
    (tmp_path / "link.pt").symlink_to(trained)
    torch.save(
        {"model": {}, "args": load_checkpoint(trained)["cfg"]["model"]}, tmp_path / "bare.pt"
    )
    assert "no such checkpoint" in refused(capsys, "fold", tmp_path / "none.pt", out)
    assert "cannot be read" in refused(capsys, "fold", tmp_path / "text.pt", out)
    assert "truncated" in refused(capsys, "fold", tmp_path / "half.pt", out)
    assert "empty" in refused(capsys, "fold", tmp_path / "empty.pt", out)
    assert "embed_tokens" in refused(capsys, "fold", tmp_path / "bare.pt", out)
    assert "its folder does not exist" in refused(
        capsys, "fold", trained, tmp_path / "no" / "out.pt"
    )
    assert "is the input" in refused(capsys, "fold", trained, tmp_path / "link.pt", "--force")
    assert not out.exists()
    out.write_text("precious")
    assert "--force" in refused(capsys, "fold", trained, out) and out.read_text() == "precious"
    said = refused(capsys, "fold", trained, tmp_path, "--force")
    assert "is a folder, which is not replaced" in said
    assert "must be the path of a file" in refused(capsys, "fold", trained, "")
    assert "it is a folder" in refused(capsys, "fold", tmp_path, out, "--force")
    assert "cannot be read" in refused(capsys, "fold", trained / "x", out, "--force")
    torch.save(
        {"model": {"a": torch.zeros(1)}},
        tmp_path / "legacy.pt",
        _use_new_zipfile_serialization=False,
    )
    (tmp_path / "legacy.pt").write_bytes((tmp_path / "legacy.pt").read_bytes()[:60])
    assert "truncated" in refused(capsys, "fold", tmp_path / "legacy.pt", out, "--force")
    assert cli.main(["fold", str(trained), str(out), "--force"]) == 0 and load_checkpoint(out)
    assert trained.read_bytes() == before


def changed(trained, path, flags=None, weights=None):
    """Write the checkpoint with other flags and weights."""
    state = load_checkpoint(trained)
    vars(state["cfg"]["model"]).update(flags or {})
    state["model"].update(weights or {})
    torch.save(state, path)
    return path


def test_damaged_flags_and_weights(trained, tmp_path, capsys):
    out = tmp_path / "out.pt"
    for flags in ({"activation_fn": "nope"}, {"encoder_embed_dim": "16"}, {"encoder_layers": 3}):
        assert "in.pt" in refused(capsys, "fold", changed(trained, tmp_path / "in.pt", flags), out)
    assert "not a tensor" in refused(
        capsys, "fold", changed(trained, tmp_path / "in.pt", weights={"extra": 3}), out
    )
    name = "encoder.layers.0.ffn_residual.omega"
    nan = changed(trained, tmp_path / "in.pt", weights={name: torch.full((16,), float("nan"))})
    assert f"{name} holds NaN" in refused(capsys, "fold", nan, out)
    tiny = changed(trained, tmp_path / "in.pt", weights={name: torch.full((16,), 1e-40)})
    error = refused(capsys, "fold", tiny, out)
    assert "overflows float32" in error and "average" not in error
    assert not out.exists()


def test_embeddings_that_training_read_from_a_file_are_in_the_checkpoint(trained, tmp_path):
    moved = changed(trained, tmp_path / "in.pt", {"encoder_embed_path": "/gone/embeddings.txt"})
    assert cli.main(["fold", str(moved), str(tmp_path / "out.pt")]) == 0


def test_a_full_disk_leaves_nothing(trained, tmp_path, capsys):
    folder = tmp_path / "full"
    folder.mkdir()
    if subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=24k", "tmpfs", str(folder)], capture_output=True
    ).returncode:
        pytest.skip("mounting a small file system needs root")
    try:
        assert "cannot be written" in refused(capsys, "fold", trained, folder / "out.pt")
        assert list(folder.iterdir()) == []
    finally:
        subprocess.run(["umount", str(folder)], check=True)


ctranslate2 = pytest.importorskip(
    "ctranslate2", reason="ctranslate2 is not installed: pip install '.[serving]'"
)


@pytest.fixture(scope="module")
def exported(trained):
    folder = trained.parent / "ct2"
    assert cli.main(["export", "--format", "ctranslate2", str(trained), str(folder)]) == 0
    return folder


def test_ctranslate2_translates_alike(data_bin, trained, exported):
    """Greedily: with a beam the two programs end their search by rules of their own."""
    output = generate(data_bin, trained, USER_DIR, beam=1)
    sources, expected = lines(output, "S"), lines(output, "H")
    translator = ctranslate2.Translator(str(exported), device="cpu")
    results = translator.translate_batch(
        [sources[n].split() for n in sorted(sources)], beam_size=1, max_decoding_length=12
    )
    found = {n: " ".join(result.hypotheses[0]) for n, result in zip(sorted(sources), results)}
    assert len(expected) == 27 and found == expected
    assert sorted(os.listdir(exported)) == ["config.json", "model.bin", "shared_vocabulary.json"]


def test_ctranslate2_int8(trained, tmp_path):
    # in a process of its own: CTranslate2 reads CT2_USE_MKL once
    command = [sys.executable, "-m", "admin_fairseq", "export", "--format", "ctranslate2"]
    command += ["--quantization", "int8", trained, tmp_path / "int8"]
    log = run(*command, env={"CT2_USE_MKL": "1"}).stdout
    assert "omegas near 0" not in log and "VNNI" not in log
    found = re.search(r"CTranslate2 \(int8\S*\): .* differ by (\S+) on average", log)
    assert 0 < float(found[1]) < 0.02
    assert os.listdir(tmp_path) == ["int8"], "nothing is left beside it"


def test_int8_is_worse_on_processors_without_vnni(trained, tmp_path, capsys, monkeypatch):
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text("processor\t: 0\nvendor_id\t: AuthenticAMD\nflags\t\t: fpu avx avx2\n")
    monkeypatch.setattr(int8_noise, "_CPUINFO", str(cpuinfo))
    monkeypatch.delenv("CT2_USE_MKL", raising=False)
    int8 = ["--quantization", "int8", str(trained), str(tmp_path / "int8")]
    assert cli.main(["export", "--format", "ctranslate2", *int8]) == 0
    assert "CT2_USE_MKL=1" in capsys.readouterr().err


@pytest.mark.parametrize(
    "vendor, flags, mkl, cut",
    [
        ("AuthenticAMD", "avx2", "0", True),
        ("AuthenticAMD", "avx2", "1", False),
        ("AuthenticAMD", "avx2 avx512_vnni", "0", False),
        ("AuthenticAMD", "avx2 avx_vnni", "", False),
        ("GenuineIntel", "avx2", "0", False),
    ],
)
def test_where_int8_sums_are_cut(vendor, flags, mkl, cut):
    text = f"vendor_id\t: {vendor}\nflags\t\t: fpu {flags} fma\n"
    assert int8_noise.cuts_sums(text, {"CT2_USE_MKL": mkl}) is cut
    assert not int8_noise.cuts_sums("Features\t: asimd\n", {}), "ARM"


def test_near_zero_omegas_are_a_warning_for_int8(trained, tmp_path, capsys):
    state = load_checkpoint(trained)
    state["model"]["encoder.layers.1.ffn_residual.omega"][0] = 1e-4
    torch.save(state, tmp_path / "in.pt")
    assert (
        cli.main(
            [
                "export",
                "--format",
                "ctranslate2",
                "--quantization",
                "int8",
                str(tmp_path / "in.pt"),
                str(tmp_path / "out"),
            ]
        )
        == 0
    )
    assert re.search(
        r"omegas near 0 .* in 1 matrices, .* \(encoder.layers.1.fc1.weight\)",
        capsys.readouterr().err,
    )


def test_noise_growth_is_that_of_the_int8_rounding():
    """The estimate against the rounding itself, over random inputs."""
    model = adaptive(dim=64)
    generator = torch.Generator().manual_seed(1)
    site = named_sites(model)["encoder.layers.1.ffn_residual"]
    with torch.no_grad():
        site.omega.copy_(torch.rand(64, generator=generator) * 2)
        site.omega[:3] = 0.02
    weight = model.encoder.layers[1].fc1.weight.detach().double()
    omega = site.omega.detach().double()
    inputs = torch.randn(4000, 64, generator=generator, dtype=torch.float64)

    def noise(matrix, given):
        step = matrix.abs().amax(1, keepdim=True) / 127
        return (given @ ((matrix / step).round() * step - matrix).t()).pow(2).mean().sqrt()

    growth = noise(weight / omega, inputs * omega) / noise(weight, inputs)
    estimate = noise_growth(fold_state(model.state_dict(), model.flags))[
        "encoder.layers.1.fc1.weight"
    ]
    assert growth > 5 and estimate == pytest.approx(growth.item(), rel=0.35)


def test_export_mistakes(data_bin, trained, exported, tmp_path, capsys):
    command = ["export", "--format", "ctranslate2"]
    out = tmp_path / "out"
    assert "--force" in refused(capsys, *command, trained, exported)
    assert "name --source-lang" in refused(capsys, *command, trained, out, "--data", tmp_path)
    languages = ["--source-lang", "en", "--target-lang", "de"]
    error = refused(capsys, *command, trained, out, "--data", tmp_path, *languages)
    assert "dict.en.txt: does not exist" in error and "dict.de.txt: does not exist" in error
    for language in ("en", "de"):
        text = (data_bin / f"dict.{language}.txt").read_text().splitlines()[:-1]
        (tmp_path / f"dict.{language}.txt").write_text("\n".join(text) + "\n")
    assert "types" in refused(capsys, *command, trained, out, "--data", tmp_path, *languages)
    state = load_checkpoint(trained)
    state["cfg"]["model"].activation_fn = "tanh"
    torch.save(state, tmp_path / "tanh.pt")
    assert "--activation-fn tanh" in refused(capsys, *command, tmp_path / "tanh.pt", out)
    (tmp_path / "dict.en.txt").write_text("not a dictionary\n")
    assert "dict.en.txt" in refused(capsys, *command, trained, out, "--data", tmp_path, *languages)
    assert not out.exists()
    assert "--force replaces nothing but" in refused(
        capsys, *command, trained, trained.parent, "--force"
    )
    assert trained.exists()
    assert cli.main([*command, str(trained), str(exported), "--force"]) == 0
    assert ctranslate2.Translator(str(exported))


def test_a_conversion_that_computes_something_else_is_not_kept(
    trained, tmp_path, monkeypatch, capsys
):
    from ctranslate2.converters import fairseq as converter

    original = converter.set_position_encodings
    monkeypatch.setattr(
        converter,
        "set_position_encodings",
        lambda spec, module: (
            original(spec, module),
            setattr(spec, "encodings", spec.encodings * 1.1),
        ),
    )
    assert "something else" in refused(
        capsys, "export", "--format", "ctranslate2", trained, tmp_path / "out"
    )
    assert list(tmp_path.iterdir()) == []


def test_the_old_folder_comes_back_if_the_new_one_cannot_take_its_place(tmp_path):
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / "model.bin").write_text("precious")
    with pytest.raises(OSError):
        put_in_place(tmp_path / "none", tmp_path / "old", tmp_path / "aside")
    assert (tmp_path / "old" / "model.bin").read_text() == "precious"


def test_without_ctranslate2_it_says_how_to_install_it(trained, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "ctranslate2", None)
    assert "pip install ctranslate2" in refused(
        capsys, "export", "--format", "ctranslate2", trained, tmp_path / "out"
    )
