"""train.sh and sweep.sh: recipes, tokens per update, commands, killed and diverged runs."""

import json
import math
import os
import re
import subprocess
import time
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from admin_fairseq.errors import AdminError
from admin_fairseq.experiments import recipe as recipes
from admin_fairseq.experiments.runs import batch, children, command, outcome, record, restart, runs
from admin_fairseq.experiments.runs.checks import check
from admin_fairseq.experiments.runs.settings import Settings
from admin_fairseq.files import locked
from admin_fairseq.init_types import METHODS
from admin_fairseq.profile.file import save
from tests.helpers import REPOSITORY
from tests.profiles import made_up
from tests.warm import shared

FOLDER = recipes.RECIPES
DATA = "\n[data]\nsource = en\ntarget = de\nlowercase = no\n"
TINY = """
[model]
arch = admin_transformer_tiny
dims = 16 / 32 / 2
depths = 2-2
dropout = 0.1
attention-dropout = 0
activation-dropout = 0
xavier-ffn = yes
[training]
optimizer = radam
betas = 0.9 / 0.98
lr = 5e-3
warmup = 4
label-smoothing = 0.1
weight-decay = 0
clip-norm = 0
tokens-per-update = 1 x 256
epochs = 2
seeds = 1 2
profile-seed = 1
no-warmup-lr = 1e-3 2e-3
no-warmup-beta2 = 0.99
no-warmup-updates = 3
[evaluation]
average = 2
beam = 2
lenpen = 1
compound-splitting = yes
"""


def published_recipe(name, tmp_path):
    """A recipe of the repository; its [data] section is another part's."""
    text = (FOLDER / f"{name}.ini").read_text()
    path = tmp_path / f"{name}.ini"
    path.write_text(text if "\n[data]" in text else text + DATA)
    return recipes.read_recipe(path, recipes.TO_TRAIN)


@pytest.fixture
def tiny(tmp_path, data_bin):
    """A small recipe beside its prepared data, in the layout of the data scripts."""
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "data-bin").symlink_to(data_bin)
    (tmp_path / "data" / "raw").symlink_to(data_bin.parent)
    (tmp_path / "tiny.ini").write_text(TINY + DATA)
    return tmp_path


def script(name, folder, *words, start=False):
    """Run a script on the small recipe with the warm process's commands, or only start it."""
    environment = {**os.environ, "VENV": str(shared().folder), "OMP_NUM_THREADS": "1"}
    line = ["bash", str(REPOSITORY / "scripts" / name), *(str(word) for word in words)]
    if start:
        return subprocess.Popen(
            line, cwd=folder, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
    return subprocess.run(
        line,
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


@given(st.integers(1, 10**7), st.integers(1, 512), st.integers(1, 20000))
def test_tokens_per_update_are_the_nearest_possible(wanted, processes, max_tokens):
    planned = batch.plan(wanted, processes, max_tokens)
    step = processes * max_tokens
    assert (
        planned.tokens == step * planned.update_freq and str(planned.tokens) in planned.describe()
    )
    others = [
        abs(step * freq - wanted)
        for freq in range(max(1, planned.update_freq - 2), planned.update_freq + 3)
    ]
    assert abs(planned.tokens - wanted) == min(others)
    exact = re.search(r"--max-tokens (\d+) would be exact", planned.describe())
    if exact:
        assert (
            int(exact[1]) <= max_tokens
            and batch.plan(wanted, processes, int(exact[1])).tokens == wanted
        )


# section 1 of the design: name -> depth -> flags and values
TABLE = {
    "iwslt14_de-en": {"6-6": (512, 1024, 4, 7e-4, 6000, 0.3, 1e-4, 4096, 90, 5, 1)},
    "wmt14_en-de": {
        **{
            depth: (512, 2048, 8, 1e-3, 8000, 0.1, 0, 4 * 8192, 100, 4, 0.6)
            for depth in ("6-6", "12-12", "18-18")
        },
        "100-100": (512, 2048, 8, 1e-3, 8000, 0.1, 0, 8 * 4096, 100, 4, 0.6),
    },
    "wmt14_en-fr": {
        "6-6": (512, 2048, 8, 7e-4, 8000, 0.1, 0, 8 * 8000 * 10, 50, 5, 0.8),
        "60-12": (512, 2048, 8, 7e-4, 8000, 0.1, 0, 16 * 5000 * 16, 50, 5, 0.8),
    },
}
CELLS = [(name, depth) for name, depths in TABLE.items() for depth in depths]


@pytest.mark.parametrize("init_type", [method.name for method in METHODS])
@pytest.mark.parametrize("name, depth", CELLS)
def test_commands_are_those_of_the_papers(name, depth, init_type, tmp_path):
    recipe = published_recipe(name, tmp_path)
    embed, ffn, heads, lr, warmup, dropout, decay, tokens, epochs, beam, lenpen = TABLE[name][depth]
    settings = Settings(init_type, depth, 1111, "data", processes=4)
    words = command.fairseq_train(recipe, settings, "out", "p")
    get = lambda flag: record.flag_of(words, flag)  # noqa: E731
    expected = {
        "--encoder-embed-dim": embed,
        "--decoder-ffn-embed-dim": ffn,
        "--encoder-attention-heads": heads,
        "--lr": lr,
        "--warmup-updates": warmup,
        "--dropout": dropout,
        "--attention-dropout": 0.1,
        "--activation-dropout": 0.1,
        "--weight-decay": decay,
        "--max-epoch": epochs,
        "--clip-norm": 0,
        "--label-smoothing": 0.1,
        "--keep-last-epochs": 10,
        "--warmup-init-lr": 1e-7,
        "--seed": 1111,
    }
    assert {flag: float(get(flag)) for flag in expected} == expected
    assert (
        get("--optimizer") == "radam"
        and get("--adam-betas") == "(0.9, 0.98)"
        and "--xavier-ffn" in words
    )
    assert f"{get('--encoder-layers')}-{get('--decoder-layers')}" == depth
    assert 4 * int(get("--max-tokens")) * int(get("--update-freq")) == tokens
    stored = {"pre-ln": "default", "adaptive-flat": "adaptive"}
    assert get("--init-type") == stored.get(init_type, init_type)
    assert get("--omega-shape") == ("flat" if init_type == "adaptive-flat" else None)
    assert (
        ("--encoder-normalize-before" in words)
        == (init_type == "pre-ln")
        == ("--decoder-normalize-before" in words)
    )
    assert (recipe.get("evaluation", "beam"), recipe.get("evaluation", "lenpen")) == (beam, lenpen)
    assert recipe.get("evaluation", "average") == 10
    assert recipe.get("training", "profile-seed") == 1111


def test_deepnmt_profiles_with_another_dropout_than_it_trains_with(tmp_path):
    recipe = published_recipe("wmt14_en-fr-deepnmt", tmp_path)
    settings = Settings("adaptive", "60-12", 1111, "data", processes=16)
    words = command.fairseq_train(recipe, settings, "out", "p")
    expected = {
        "--dropout": 0.2,
        "--attention-dropout": 0.1,
        "--activation-dropout": 0.1,
        "--lr": 1e-3,
        "--warmup-updates": 8000,
        "--max-tokens": 3200,
        "--update-freq": 8,
        "--max-epoch": 50,
    }
    assert {flag: float(record.flag_of(words, flag)) for flag in expected} == expected
    assert "--xavier-ffn" in words and "--zero-qkv-bias" not in words
    profile = command.fairseq_train(recipe, settings, "out", "p", stage="profile")
    assert record.flag_of(profile, "--dropout") == "0.1"
    known = {cell for cell, paper in recipe.published.items() if paper.settings_known}
    assert known == {("adaptive", "60-12")}
    # a profile's name says with which dropout it was measured
    other = published_recipe("wmt14_en-fr", tmp_path)
    assert command.profile_name(other, settings) != command.profile_name(recipe, settings)


# the others train on the data of one of these
PREPARED = [path for path in sorted(FOLDER.glob("*.ini")) if "\ntrain =" in path.read_text()]


@pytest.mark.parametrize("path", PREPARED, ids=lambda path: path.stem)
def test_preparing_and_training_read_the_same_file(path, tmp_path):
    """With comments behind values too."""
    text = re.sub(
        r"^(source|target|lowercase|merges) = .*",
        r"\g<0>   # comment = x",
        path.read_text(),
        flags=re.M,
    )
    (tmp_path / path.name).write_text(text)
    trained = recipes.read_recipe(tmp_path / path.name, recipes.TO_TRAIN)
    prepared = recipes.read_recipe(tmp_path / path.name, recipes.TO_PREPARE)
    assert trained.data == prepared.data and trained.name == prepared.name
    assert (trained.source, trained.target, trained.lowercase) == (
        prepared.data.source,
        prepared.data.target,
        prepared.data.lowercase,
    )
    assert prepared.data == recipes.read_recipe(path, recipes.TO_PREPARE).data
    assert trained.values == recipes.read_recipe(path, recipes.TO_TRAIN).values
    pair = f"{trained.source}-{trained.target}"
    assert path.stem == "quickstart" or re.search(rf"_{pair}(-\w+)?$", path.stem)


def test_seeds_share_the_profile_of_the_first(tmp_path):
    recipe = published_recipe("iwslt14_de-en", tmp_path)
    assert recipe.get("training", "seeds") == [1111, 2222, 3333, 4444, 5555]
    cells = [Settings("adaptive", "6-6", seed, "data") for seed in (1111, 2222)]
    assert len({command.profile_name(recipe, cell) for cell in cells}) == 1
    assert command.profile_name(
        recipe, Settings("adaptive", "12-12", 1, "data")
    ) != command.profile_name(recipe, cells[0])
    words = command.fairseq_train(recipe, cells[1], "out", "p", stage="profile")
    assert (
        record.flag_of(words, "--seed") == "1111"
        and record.flag_of(words, "--init-type") == "adaptive-profiling"
    )


def test_a_profile_of_ones_own_is_taken_and_none_is_measured(tmp_path):
    recipe = published_recipe("iwslt14_de-en", tmp_path)
    own = str(tmp_path / "shuffled-{seed}.profile")
    cell = Settings("adaptive", "6-6", 2, "data", profile=own)
    assert cell.variant() == "profile=shuffled"
    assert command.profile_of(recipe, cell, tmp_path / "run") == tmp_path / "shuffled-2.profile"
    with pytest.raises(AdminError, match="--profile .*shuffled-2.profile: no such profile"):
        check(recipe, cell)
    with pytest.raises(AdminError, match="--profile: --init-type deepnet has no omegas"):
        check(recipe, replace(cell, init_type="deepnet"))
    save(made_up(), tmp_path / "all mixed 2.profile")
    with pytest.raises(AdminError, match="all mixed 2.profile: its name .* without spaces"):
        check(recipe, replace(cell, profile=own.replace("shuffled-", "all mixed ")))


@pytest.mark.subprocess
def test_dry_run_with_a_profile_of_ones_own(tiny):
    for seed in (1, 2):
        save(made_up(), tiny / f"mine-{seed}.profile")
    flags = ("--data", "data", "--cpu", "--init-types", "admin", "--dry-run")
    out = script("sweep.sh", tiny, "tiny.ini", *flags, "--profile", "mine-{seed}.profile").stdout
    lines = [line for line in out.splitlines() if line.startswith("fairseq-train")]
    assert [record.flag_of(line.split(), "--admin-profile") for line in lines] == [
        str(tiny / "mine-1.profile"),
        str(tiny / "mine-2.profile"),
    ]
    assert "adaptive-profiling" not in out
    assert {Path(record.flag_of(line.split(), "--save-dir")).name for line in lines} == {
        "adaptive-2-2-seed1-profilemine",
        "adaptive-2-2-seed2-profilemine",
    }


def test_everything_wrong_in_a_recipe_is_said_at_once(tmp_path):
    text = (
        TINY.replace("dims = 16 / 32 / 2", "dims = 16 / 32")
        .replace("warmup = 4\n", "")
        .replace("beam = 2", "baem = 2")
    )
    (tmp_path / "x.ini").write_text(text)
    with pytest.raises(AdminError) as error:
        recipes.read_recipe(tmp_path / "x.ini", recipes.TO_TRAIN)
    for part in (
        "[model] dims = 16 / 32",
        "[training] warmup is missing",
        "[evaluation] baem",
        "beam is missing",
        "[data] source is missing",
    ):
        assert part in str(error.value)
    for content in (b"", b"\xff\xfe", b"no section"):
        (tmp_path / "x.ini").write_bytes(content)
        with pytest.raises(AdminError, match="x.ini"):
            recipes.read_recipe(tmp_path / "x.ini", recipes.TO_TRAIN)


@pytest.mark.subprocess
def test_dry_run_of_the_grid_without_warm_up(tiny):
    out = script(
        "sweep.sh", tiny, "tiny.ini", "--data", "data", "--cpu", "--no-warmup-grid", "--dry-run"
    ).stdout
    lines = [
        line
        for line in out.splitlines()
        if line.startswith("fairseq-train") and "adaptive-profiling" not in line
    ]
    assert len(lines) == 3 * 2 * 1 and not (tiny / "runs").exists()
    assert all(
        "--lr-scheduler polynomial_decay --warmup-updates 1 --total-num-update 3 --max-update 3"
        in line
        for line in lines
    )
    assert {re.search(r"--lr (\S+)", line)[1] for line in lines} == {"1e-3", "2e-3"}


def test_several_machines_want_a_master(tmp_path):
    settings = Settings("default", "6-6", 1, "data", processes=16, nodes=2)
    with pytest.raises(AdminError, match="--master"):
        command.distributed(["fairseq-train"], settings)
    words = command.distributed(["fairseq-train"], settings, 1, "host:123")
    assert words[:9] == [
        "torchrun",
        "--nnodes",
        "2",
        "--node-rank",
        "1",
        "--master-addr",
        "host",
        "--master-port",
        "123",
    ]
    assert record.flag_of(words, "--nproc-per-node") == "8"
    assert record.flag_of(words, "--distributed-world-size") == "16"


@pytest.mark.subprocess
def test_mistakes_in_flags_are_named_together(tiny):
    result = script(
        "train.sh",
        tiny,
        "tiny.ini",
        "--init-type",
        "admn",
        "--data",
        "nowhere",
        "--cpu",
        "--",
        "--seed",
        "3",
    )
    assert result.returncode == 1 and "Traceback" not in result.stdout
    assert all(
        part in result.stdout
        for part in ("--init-type admn", "dict.en.txt", "--seed: admin-fairseq sets it")
    )


@pytest.mark.parametrize(
    "last, others, expected",
    [
        (6.9, [], None),
        (7.1, [], 20),
        (math.nan, [], 20),
        (6.0, [[(10, 5.0), (30, 2.0)]], None),  # 1.0 of 2.0 gained, at the same update
        (6.7, [[(10, 5.0), (30, 2.0)]], 20),  # 0.3 of 2.0
        (6.7, [[(10, 2.0)]], None),  # the other has not come so far
    ],
)
def test_plateau(last, others, expected):
    own = [(10, 8.0), (20, 6.8 if last == 6.7 else 7.0), (29, last)]
    own[1] = (20, 6.65) if expected == 20 else own[1]
    assert outcome.plateau(own, others, unigram=7.0, warmup=5) == expected
    assert outcome.plateau(own, others, unigram=7.0, warmup=29) is None, "within its warm-up"


def test_crashes_that_are_divergence_and_those_that_are_not():
    assert "loss scale" in outcome.crash_reason(
        "FloatingPointError: Minimum loss scale reached (0.03). Your loss ..."
    )
    assert "non-finite" in outcome.crash_reason("FloatingPointError: gradients are Nan/Inf")
    assert (
        outcome.crash_reason(
            "FloatingPointError: Fatal error: gradients are inconsistent between workers."
        )
        is None
    )
    assert outcome.crash_reason("RuntimeError: CUDA out of memory") is None


def test_goes_on_from_the_newest_whole_checkpoint(tmp_path):
    import torch

    for number in (1, 2):
        torch.save({"model": {"w": torch.ones(50) * number}}, tmp_path / f"checkpoint{number}.pt")
        os.utime(tmp_path / f"checkpoint{number}.pt", (number, number))
    good = (tmp_path / "checkpoint2.pt").read_bytes()
    (tmp_path / "checkpoint_last.pt").write_bytes(good[: len(good) // 2])
    (tmp_path / "checkpoint_best.pt").write_bytes(b"")
    restart.restore_last(tmp_path)
    assert (tmp_path / "checkpoint_last.pt").read_bytes() == good
    assert not (tmp_path / "checkpoint_best.pt").exists()


@pytest.mark.slow
@pytest.mark.subprocess
def test_killed_and_started_again_ends_as_undisturbed(tiny):
    """To the bit, in a later epoch than the first and in the middle of it."""
    import torch

    base = ["tiny.ini", "--data", "data", "--cpu", "--init-type", "adaptive", "--seed", "2"]
    extra = [
        "--",
        "--num-workers",
        "0",
        "--max-epoch",
        "10",
        "--save-interval-updates",
        "2",
        "--log-interval",
        "1",
    ]
    killed = [*base, "--dest", "runs/killed", *extra]
    process = script("train.sh", tiny, *killed, start=True)
    while not (tiny / "runs" / "killed" / "checkpoint2.pt").exists():
        assert process.poll() is None
        time.sleep(0.05)
    process.kill()
    process.wait()
    end = time.monotonic() + 20
    while [pid for pid in os.listdir("/proc") if pid.isdigit() and _is_ours(pid, str(tiny))]:
        assert time.monotonic() < end, "fairseq-train ends with train.sh"
        time.sleep(0.1)
    killed_run = tiny / "runs" / "killed"
    assert not (killed_run / "outcome.json").exists()
    for path in killed_run.glob("checkpoint*.pt"):
        if not path.name.startswith(("checkpoint_1_", "checkpoint_2_")):
            path.unlink()
    newest = max(
        killed_run.glob("checkpoint_2_*.pt"), key=lambda path: int(path.stem.split("_")[2])
    )
    (killed_run / "checkpoint_last.pt").write_bytes(newest.read_bytes()[:1000])
    assert script("train.sh", tiny, *killed).returncode == 0
    assert (
        f"checkpoint_last.pt (epoch 2 @ {newest.stem.split('_')[2]} updates)"
        in (killed_run / "train.log").read_text()
    )
    assert script("train.sh", tiny, *base, "--dest", "runs/whole", *extra).returncode == 0
    weights = [
        torch.load(tiny / "runs" / name / "checkpoint_last.pt", weights_only=True)["model"]
        for name in ("killed", "whole")
    ]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
    assert json.loads((tiny / "runs" / "killed" / "outcome.json").read_text())["update"] > 8
    other = script("train.sh", tiny, *base, "--dest", "runs/whole", "--lr", "1")
    assert other.returncode == 0 and "already" in other.stdout, "what is done stays done"


@pytest.mark.subprocess
def test_a_folder_in_use_names_the_process_and_the_way_out(tmp_path):
    holder = subprocess.Popen(["flock", "--no-fork", str(tmp_path / "lock"), "sleep", "60"])
    try:
        while children.holders(tmp_path / "lock").get(holder.pid) != "sleep 60 ":
            time.sleep(0.01)
        held = locked(tmp_path / "lock", 0.1, runs.in_use)
        with pytest.raises(AdminError) as error, held:
            pass
        assert f"process {holder.pid}: sleep 60" in str(error.value) and "end it (kill" in str(
            error.value
        )
    finally:
        holder.kill()
        holder.wait()


def _is_ours(pid, folder):
    try:
        return (
            os.readlink(f"/proc/{pid}/cwd") == folder
            and b"fairseq-train" in open(f"/proc/{pid}/cmdline", "rb").read()
        )
    except OSError:
        return False


@pytest.mark.slow
@pytest.mark.subprocess
def test_a_sweep_goes_on_after_a_diverged_run(tiny):
    """At a learning rate of 1e30 weights are not finite after a few updates."""
    flags = [
        "tiny.ini",
        "--data",
        "data",
        "--cpu",
        "--lr",
        "1e30",
        "--seeds",
        "1",
        "--init-types",
        "default",
        "pre-ln",
    ]
    extra = [
        "--",
        "--num-workers",
        "0",
        "--max-epoch",
        "8",
        "--log-interval",
        "1",
        "--warmup-updates",
        "1",
    ]
    result = script("sweep.sh", tiny, *flags, *extra)
    assert result.returncode == 0, result.stdout
    found = {
        path.parent.name: json.loads(path.read_text())
        for path in tiny.glob("runs/tiny/*/outcome.json")
    }
    assert len(found) == 2 and {end["state"] for end in found.values()} == {"diverged"}, (
        result.stdout
    )
    assert "non-finite" in found[min(found)]["reason"] and 0 < found[min(found)]["update"] < 60
    assert result.stdout.count("diverged at update") >= 2
    assert script("sweep.sh", tiny, *flags, *extra).stdout.count("already") == 2


def test_a_data_bin_of_another_corpus_is_refused(tmp_path):
    """Prepared anew at the same place, as by other merges: nothing goes on with it."""
    recipe = published_recipe("iwslt14_de-en", tmp_path)
    settings = Settings("adaptive", "6-6", 1, str(tmp_path / "data"), cpu=True)
    words = ["fairseq-train"]
    (tmp_path / "data" / "data-bin").mkdir(parents=True)
    for lang in ("de", "en"):
        (tmp_path / "data" / "data-bin" / f"dict.{lang}.txt").write_text("a 1\n")
    profile = command.profile_name(recipe, settings)
    runs.remember(tmp_path, recipe, settings, words)
    runs.remember(tmp_path, recipe, settings, words)
    (tmp_path / "data" / "data-bin" / "dict.en.txt").write_text("b 1\n")
    assert command.profile_name(recipe, settings) != profile
    with pytest.raises(AdminError, match="is not what .* was begun with"):
        runs.remember(tmp_path, recipe, settings, words)
    with pytest.raises(AdminError, match="is not what .* was begun with"):
        runs.check_corpus(tmp_path, recipe, str(tmp_path / "data"))


@pytest.mark.subprocess
@pytest.mark.parametrize("jobs", ["1", "2"])
def test_a_sweep_goes_on_after_a_failed_run(tiny, jobs):
    """The first run's folder holds a run with another command."""
    flags = ["tiny.ini", "--data", "data", "--cpu", "--seeds", "1", "2", "--init-types", "default"]
    extra = ["--", "--num-workers", "0", "--max-update", "1", "--no-save"]
    listed = script("sweep.sh", tiny, *flags, "--dry-run", *extra).stdout
    first, second = re.findall(r"--save-dir (\S+)", listed)
    (tiny / first).mkdir(parents=True)
    (tiny / first / "run.json").write_text('{"command": ["fairseq-train", "--lr", "7"]}')
    result = script("sweep.sh", tiny, *flags, "--jobs", jobs, *extra)
    assert result.returncode == 1 and "holds a run with other flags" in result.stdout
    assert "1 of 2 runs failed" in result.stdout and "Traceback" not in result.stdout
    assert json.loads((tiny / second / "outcome.json").read_text())["update"] == 1
