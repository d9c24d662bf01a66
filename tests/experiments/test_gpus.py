"""Which GPUs trainings get: a stand-in for nvidia-smi, and commands that write what they see."""

import json
import os

import pytest

from admin_fairseq.cli import main
from admin_fairseq.experiments.recipe import TO_TRAIN, read_recipe
from admin_fairseq.experiments.runs import command, devices, machine
from admin_fairseq.experiments.runs.record import flag_of
from admin_fairseq.experiments.runs.settings import Settings
from admin_fairseq.experiments.runs.side_by_side import Pool
from tests.experiments.test_train_script import tiny  # noqa: F401

# stands in for fairseq-train and torchrun: writes its environment, a profile, the end of a log
SEEN = """#!/bin/sh
echo "$(date +%s%N) begin $CUDA_VISIBLE_DEVICES $*" >> "$SEEN"
while [ $# -gt 0 ]; do
    case $1 in --admin-profile) profile=$2 ;; adaptive-profiling) profiling=1 ;; esac
    shift
done
sleep 0.5
[ -z "$profiling" ] || touch "$profile"
echo "$(date +%s%N) end $CUDA_VISIBLE_DEVICES" >> "$SEEN"
echo "| INFO | done training in 0.5 seconds"
"""


@pytest.fixture
def gpus(tmp_path, monkeypatch):
    """``gpus(N, visible)``: a machine with N of them; returns what the commands have seen."""
    tools = tmp_path / "tools"
    tools.mkdir()
    (tools / "seen").write_text(SEEN)
    (tools / "seen").chmod(0o755)
    monkeypatch.setenv("SEEN", str(tmp_path / "seen.txt"))
    monkeypatch.setenv("PATH", f"{tools}:{os.environ['PATH']}")
    monkeypatch.setattr(machine, "_version", lambda _: "2.13.0")
    monkeypatch.setattr(command, "find_command", lambda _: str(tools / "seen"))

    def appear(number, visible=None):
        names = "".join(f"NVIDIA {letter}\\n" for letter in "ABCDEFGH"[:number])
        (tools / "nvidia-smi").write_text(f"#!/bin/sh\nprintf '{names}'\n")
        (tools / "nvidia-smi").chmod(0o755)
        if visible is None:
            monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
        else:
            monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)

    return appear


def seen(folder):
    """(time, begin or end, CUDA_VISIBLE_DEVICES, the rest) of each line that commands wrote."""
    lines = [line.split(" ", 3) for line in (folder / "seen.txt").read_text().splitlines()]
    return sorted((int(line[0]), line[1], line[2], " ".join(line[3:])) for line in lines)


def trainings(folder):
    """CUDA_VISIBLE_DEVICES of the trainings, in the order of their start; profiling left out."""
    return [
        gpu
        for _, what, gpu, words in seen(folder)
        if what == "begin" and "adaptive-profiling" not in words
    ]


def sweep(folder, monkeypatch, *words):
    monkeypatch.chdir(folder)
    return main(["sweep", "tiny.ini", "--data", "data", *words])


@pytest.mark.subprocess
@pytest.mark.parametrize(
    "number, visible, expected",
    [
        (3, None, {"0", "1", "2"}),
        (8, "5,3", {"5", "3"}),
        (2, "GPU-8f3a,GPU-77", {"GPU-8f3a", "GPU-77"}),
        (1, "MIG-GPU-1/7/0,MIG-GPU-1/9/0", {"MIG-GPU-1/7/0", "MIG-GPU-1/9/0"}),
        (4, "2", {"2"}),
        (4, "1,9,2", {"1"}),
    ],
)
def test_a_sweep_trains_one_run_on_each_gpu(number, visible, expected, tiny, gpus, monkeypatch):  # noqa: F811
    gpus(number, visible)
    assert sweep(tiny, monkeypatch, "--init-types", "default", "pre-ln", "--seeds", "1", "2") == 0
    assert set(trainings(tiny)) == expected and len(trainings(tiny)) == 4
    running, most = set(), 0
    for _, what, gpu, words in seen(tiny):
        if what == "begin":
            assert gpu not in running, "two trainings on one GPU"
            running.add(gpu)
            assert flag_of(words.split(), "--max-tokens") == "256"
            assert "torchrun" not in words and "--distributed" not in words
        else:
            running.discard(gpu)
        most = max(most, len(running))
    assert most == len(expected)
    settings = [json.loads(path.read_text()) for path in tiny.glob("runs/tiny/*/run.json")]
    assert {run["settings"]["processes"] for run in settings} == {1}
    assert {run["tokens_per_update"] for run in settings} == {256}


@pytest.mark.subprocess
def test_no_gpu_or_none_visible_is_the_cpu(tiny, gpus, monkeypatch):  # noqa: F811
    gpus(4, "")
    assert sweep(tiny, monkeypatch, "--init-types", "default", "--seeds", "1") == 0
    ((_, _, gpu, words), _) = seen(tiny)
    assert gpu == "" and "--cpu" in words


@pytest.mark.subprocess
def test_a_profile_is_measured_on_one_gpu_with_the_papers_batch(tiny, gpus, capsys, monkeypatch):  # noqa: F811
    gpus(4)
    monkeypatch.chdir(tiny)
    words = ["train", "tiny.ini", "--data", "data", "--init-type", "admin", "--processes", "4"]
    assert main(words) == 0
    assert "a batch has 64 tokens, the recipe's has 256" in capsys.readouterr().err
    (_, _, first, profiling), _, (_, _, second, training), _ = seen(tiny)
    assert (first, second) == ("0", "0,1,2,3")
    assert flag_of(profiling.split(), "--max-tokens") == "256"
    assert flag_of(training.split(), "--nproc-per-node") == "4"
    assert flag_of(training.split(), "--max-tokens") == "64"


@pytest.mark.subprocess
def test_jobs_and_runs_of_several_gpus_share_the_machine(tiny, gpus, monkeypatch):  # noqa: F811
    gpus(5)
    text = (tiny / "tiny.ini").read_text()
    (tiny / "tiny.ini").write_text(text.replace("1 x 256", "2 x 256"))
    words = ["--init-types", "default", "--seeds", "1", "2", "3"]
    assert sweep(tiny, monkeypatch, *words) == 0
    assert sorted(trainings(tiny)) in (["0,1", "0,1", "2,3"], ["0,1", "2,3", "2,3"])
    (tiny / "seen.txt").unlink()
    assert sweep(tiny, monkeypatch, *words, "--updates", "3", "--jobs", "1") == 0
    assert trainings(tiny) == ["0,1"] * 3
    assert sweep(tiny, monkeypatch, *words, "--processes", "6") == 1


@pytest.mark.parametrize(
    "name, layers, gpu_count, expected",
    [
        ("iwslt14_de-en", "6-6", 1, (1, 4096, 1)),
        ("iwslt14_de-en", "6-6", 8, (1, 4096, 1)),
        ("wmt14_en-de", "6-6", 1, (1, 8192, 4)),
        ("wmt14_en-de", "6-6", 8, (4, 8192, 1)),
        ("wmt14_en-de", "100-100", 8, (8, 4096, 1)),
        ("wmt14_en-fr", "60-12", 8, (8, 5000, 32)),
    ],
)
def test_the_papers_batch_on_other_machines(
    name, layers, gpu_count, expected, gpus, tmp_path, capsys, monkeypatch
):
    gpus(gpu_count)
    recipe = read_recipe(name, TO_TRAIN)
    data = tmp_path / "data" / "data-bin"
    data.mkdir(parents=True)
    for lang in (recipe.source, recipe.target):
        (data / f"dict.{lang}.txt").write_text("a 1\n")
    words = ["train", name, "--init-type", "admin", "--layers", layers]
    assert main([*words, "--data", str(tmp_path / "data"), "--dry-run"]) == 0
    note, profiling, training = capsys.readouterr().out.splitlines()
    processes, tokens, update_freq = expected
    assert note.endswith("equal")
    assert flag_of(training.split(), "--max-tokens") == str(tokens)
    assert flag_of(training.split(), "--update-freq") == str(update_freq)
    assert (flag_of(training.split(), "--nproc-per-node") or "1") == str(processes)
    visible = ",".join(str(number) for number in range(processes))
    assert training.startswith(f"CUDA_VISIBLE_DEVICES={visible} ")
    assert profiling.startswith("CUDA_VISIBLE_DEVICES=0 fairseq-train ")
    of_recipe = recipe.get("training", "tokens-per-update", layers)[1]
    assert flag_of(profiling.split(), "--max-tokens") == str(of_recipe)
    assert flag_of(profiling.split(), "--update-freq") == "1"


@pytest.mark.parametrize(
    "name, layers, nodes, available, expected",
    [
        ("wmt14_en-de", "18-18", 2, 8, 2),
        ("wmt14_en-de", "18-18", 3, 8, 2),
        ("wmt14_en-de", "18-18", 2, 1, 1),
        ("wmt14_en-fr", "60-12", 2, 8, 8),
        ("wmt14_en-fr", "60-12", 4, 8, 4),
        ("iwslt14_de-en", "6-6", 1, 8, 1),
    ],
)
def test_gpus_of_each_of_several_machines(name, layers, nodes, available, expected):
    recipe = read_recipe(name, TO_TRAIN)
    assert devices.of_one_training(recipe, layers, nodes, available) == expected


def test_a_profiles_batch_is_the_papers_whatever_fits_a_device(tmp_path):
    recipe = read_recipe("wmt14_en-de", TO_TRAIN)
    names = set()
    for processes, max_tokens in ((1, 0), (8, 0), (4, 1000)):
        settings = Settings(
            "adaptive", "18-18", 1, "data", processes=processes, max_tokens=max_tokens
        )
        words = command.fairseq_train(recipe, settings, "out", "p", stage="profile")
        assert flag_of(words, "--max-tokens") == "8192"
        names.add(command.profile_name(recipe, settings))
    assert len(names) == 1, "one profile for all machines"


def test_a_pool_hands_out_each_gpu_once():
    pool = Pool(["3", "1", "0"], [2, 1, 2])
    first = pool.take(0)
    assert first == ["3", "1"] and pool.has_enough(1) and not pool.has_enough(2)
    assert pool.take(1) == ["0"] and not pool.has_enough(1)
    pool.give_back(first)
    pool.give_back(["0"])
    assert pool.free == ["3", "1", "0"] and pool.most_at_a_time() == 3
