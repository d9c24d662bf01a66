"""End to end through fairseq's own commands, as a user types them."""

import json
import re

import pytest
import torch

from admin_fairseq.checkpoints import load_checkpoint
from admin_fairseq.profile import file as profile_file
from tests.helpers import USER_DIR, run, train

pytestmark = [pytest.mark.subprocess, pytest.mark.slow]


def generate(data_bin, path, *flags):
    command = [
        "fairseq-generate",
        data_bin,
        "--user-dir",
        USER_DIR,
        "--path",
        path,
        "--beam",
        "2",
        "--cpu",
    ]
    return run(*command, "--scoring", "sacrebleu", *flags).stdout


def hypotheses(output):
    return {int(number): text for number, text in re.findall(r"^H-(\d+)\t\S+\t(.*)$", output, re.M)}


def training_losses(output):
    """The losses of a run by update."""
    found = re.findall(r"train_inner \|.* loss=([\d.]+),.* num_updates=(\d+),", output)
    return {int(update): float(loss) for loss, update in found}


@pytest.fixture(scope="module")
def trained(data_bin, tmp_path_factory):
    """Stage 1, then stage 2 for one epoch."""
    folder = tmp_path_factory.mktemp("run")
    stage1 = train(data_bin, folder, "--init-type", "adaptive-profiling")
    files = sorted(path.name for path in folder.iterdir())
    text = (folder / "admin.profile").read_text()
    stage2 = train(data_bin, folder, "--init-type", "adaptive", "--max-epoch", "1")
    return {
        "folder": folder,
        "stage1": stage1.stdout,
        "files": files,
        "profile": text,
        "stage2": stage2.stdout,
    }


def test_stage_1_writes_the_profile_and_nothing_else(trained):
    assert trained["files"] == ["admin.profile"]
    assert "num_updates=1" not in trained["stage1"]
    assert re.search(
        r"decoder.layers.1.encoder_attn_residual +[\d.]+ +[\d.]+ +[\d.]+", trained["stage1"]
    )
    assert "# seed: 7\n" in trained["profile"] and "adaptive-profiling" in trained["profile"]


def test_stage_2_starts_from_the_profile(trained):
    profile = profile_file.load(trained["folder"] / "admin.profile")
    assert "omegas of 10 residual sites filled" in trained["stage2"]
    state = load_checkpoint(trained["folder"] / "checkpoint1.pt")
    assert state["cfg"]["model"].admin_omega == dict(profile.omega)
    for name, omega in profile.omega.items():
        weight = state["model"][name + ".omega"]
        assert weight.shape == (16,)
        assert 0 < (weight - omega).abs().max() < 0.2, "trained, from where the profile put it"


def test_profile_resume_average_generate_interactive(trained, data_bin, tmp_path):
    folder = trained["folder"]
    (folder / "admin.profile").unlink()
    resumed = train(data_bin, folder, "--init-type", "adaptive", "--max-epoch", "3").stdout
    assert "no profile is read" in resumed and "Loaded checkpoint" in resumed
    mean = tmp_path / "mean.pt"
    run(
        "admin-fairseq",
        "average",
        "--inputs",
        folder,
        "--num-epoch-checkpoints",
        "2",
        "--output",
        mean,
    )

    one = generate(data_bin, mean)
    assert re.search(r"Generate test with beam=2: BLEU\S* = [\d.]+", one), one[-500:]
    assert sorted(hypotheses(one)) == list(range(27)), "27 sentences in, 27 hypotheses out"
    two = generate(data_bin, f"{mean}:{folder}/checkpoint3.pt")
    assert len(hypotheses(two)) == 27

    text = tmp_path / "in.en"
    text.write_text("s1 s2 s3\ns4\n")
    command = [
        "fairseq-interactive",
        data_bin,
        "--user-dir",
        USER_DIR,
        "--path",
        mean,
        "--cpu",
        "--input",
        text,
    ]
    assert len(hypotheses(run(*command).stdout)) == 2

    again = train(data_bin, folder, "--init-type", "adaptive", "--max-epoch", "4").stdout
    assert min(training_losses(again)) > max(training_losses(resumed))


def test_auto_is_the_two_stages_to_the_last_bit(data_bin, tmp_path):
    flags = ["--max-update", "4", "--no-epoch-checkpoints"]
    train(data_bin, tmp_path / "two", "--init-type", "adaptive-profiling")
    train(data_bin, tmp_path / "two", "--init-type", "adaptive", *flags)
    train(data_bin, tmp_path / "auto", "--init-type", "adaptive-auto", *flags)
    two, auto = (profile_file.load(tmp_path / name / "admin.profile") for name in ("two", "auto"))
    assert two.sites == auto.sites
    models = [
        load_checkpoint(tmp_path / name / "checkpoint_last.pt")["model"] for name in ("two", "auto")
    ]
    assert all(torch.equal(value, models[1][name]) for name, value in models[0].items())


def test_auto_resumes_without_profiling_again(data_bin, tmp_path):
    flags = ["--init-type", "adaptive-auto", "--no-epoch-checkpoints", "--lr", "1e-9"]
    train(data_bin, tmp_path, *flags, "--max-update", "4")
    profile = profile_file.load(tmp_path / "admin.profile")
    (tmp_path / "admin.profile").unlink()
    resumed = train(data_bin, tmp_path, *flags, "--max-update", "6").stdout
    assert "nothing is profiled" in resumed and not (tmp_path / "admin.profile").exists()
    assert list(training_losses(resumed)) == [5, 6]
    state = load_checkpoint(tmp_path / "checkpoint_last.pt")["model"]
    assert all(
        torch.allclose(state[name + ".omega"], torch.tensor(omega))
        for name, omega in profile.omega.items()
    )


def test_five_seeds_share_one_profile(data_bin, tmp_path):
    profile = tmp_path / "shared.profile"
    train(
        data_bin, tmp_path / "none", "--init-type", "adaptive-profiling", "--admin-profile", profile
    )
    flags = [
        "--init-type",
        "adaptive",
        "--admin-profile",
        profile,
        "--max-update",
        "1",
        "--no-save",
    ]
    losses = [
        training_losses(train(data_bin, tmp_path / s, *flags, "--seed", s).stdout)[1]
        for s in ("8", "9")
    ]
    assert losses[0] != losses[1]


def test_bf16_on_the_cpu_with_auto(data_bin, tmp_path):
    """bf16 keeps float32 master weights, made before omega is measured: they must hold it too."""
    flags = [
        "--init-type",
        "adaptive-auto",
        "--bf16",
        "--max-update",
        "2",
        "--lr",
        "1e-9",
        "--no-epoch-checkpoints",
    ]
    train(data_bin, tmp_path, *flags)
    profile = profile_file.load(tmp_path / "admin.profile")
    assert profile.provenance["precision"] == "bfloat16"
    state = load_checkpoint(tmp_path / "checkpoint_last.pt")
    for name, omega in profile.omega.items():
        expected = torch.full((16,), omega).to(torch.bfloat16)
        assert torch.equal(state["model"][name + ".omega"], expected), name


@pytest.mark.parametrize("flags", [["--memory-efficient-fp16"], ["--amp"]], ids=lambda f: f[0])
def test_other_precisions_on_the_cpu(data_bin, tmp_path, flags):
    optimizer = ["--optimizer", "adam"] if "--memory-efficient-fp16" in flags else []
    out = train(
        data_bin,
        tmp_path,
        "--init-type",
        "adaptive-auto",
        "--max-update",
        "3",
        "--no-save",
        *flags,
        *optimizer,
    )
    assert len(training_losses(out.stdout)) == 3


def test_everything_a_transformer_has_at_once(data_bin, tmp_path):
    base = [
        "--layernorm-embedding",
        "--encoder-learned-pos",
        "--checkpoint-activations",
        "--freeze-first-omega",
    ]
    train(data_bin, tmp_path, "--init-type", "adaptive-profiling", *base)
    extra = ["--encoder-layerdrop", "0.3", "--quant-noise-pq", "0.1", "--log-format", "json"]
    out = train(
        data_bin, tmp_path, "--init-type", "adaptive", "--max-epoch", "1", *base, *extra
    ).stdout
    record = json.loads(re.findall(r"\| train \| (\{.*\})", out)[-1])
    assert float(record["train_loss"]) > 0
    state = load_checkpoint(tmp_path / "checkpoint_last.pt")["model"]
    assert state["encoder.layers.0.self_attn_residual.omega"].eq(1).all()
    assert not state["encoder.layers.1.self_attn_residual.omega"].eq(1).all()


@pytest.mark.parametrize(
    "flags",
    [["--init-type", "default"], ["--encoder-normalize-before", "--decoder-normalize-before"]],
)
def test_baselines_train_and_generate(data_bin, tmp_path, flags):
    train(data_bin, tmp_path, *flags, "--max-epoch", "1")
    assert len(hypotheses(generate(data_bin, tmp_path / "checkpoint_last.pt"))) == 27
    assert not (tmp_path / "admin.profile").exists()


def test_hydra_train(data_bin, tmp_path):
    """fairseq-hydra-train hands a legacy model only what the configuration names at ``model``."""
    common = f"""common.user_dir={USER_DIR} common.cpu=true task=translation task.data={data_bin}
        +task.source_lang=en +task.target_lang=de +model._name=admin_transformer_tiny
        +model.arch=admin_transformer_tiny criterion=cross_entropy optimizer=adam
        lr_scheduler=inverse_sqrt optimization.lr=[0.001] dataset.max_tokens=256
        dataset.num_workers=0 optimization.max_update=1 checkpoint.save_dir={tmp_path}
        +model.admin_profile={tmp_path}/p hydra.run.dir={tmp_path}/hydra""".split()
    run("fairseq-hydra-train", *common, "+model.init_type=adaptive-profiling", cwd=tmp_path)
    run("fairseq-hydra-train", *common, "+model.init_type=adaptive", cwd=tmp_path)
    omegas = profile_file.load(tmp_path / "p").omega
    assert load_checkpoint(tmp_path / "checkpoint_last.pt")["cfg"]["model"]["admin_omega"] == dict(
        omegas
    )
