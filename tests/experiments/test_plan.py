"""``admin-fairseq plan``: its arithmetic, its memory, what it reads, and what it refuses."""

import os
import subprocess
import sys

import pytest
import torch
from fairseq.criterions.label_smoothed_cross_entropy import LabelSmoothedCrossEntropyCriterion
from torch.utils.flop_counter import FlopCounterMode

from admin_fairseq.cli import main
from admin_fairseq.experiments.plan.gpus import KNOWN, read_gpus
from admin_fairseq.experiments.plan.memory import FLOAT16, FLOAT32, needed
from admin_fairseq.experiments.plan.shape import Shape, Text, training_flops
from admin_fairseq.experiments.recipe import RECIPES, TO_TRAIN, read_recipe
from tests.experiments.test_run_commands import SEE
from tests.experiments.test_train_script import tiny  # noqa: F401
from tests.helpers import REPOSITORY, build, light_seconds, task

SHAPES = [
    Shape(2, 2, 64, 128, 4, 100),
    Shape(3, 1, 32, 96, 2, 56),
    Shape(1, 4, 128, 256, 4, 200),
]


def model_of(shape, checkpointing=False):
    on_task = task(shape.types)
    flags = {"encoder_layers": shape.encoder, "decoder_layers": shape.decoder}
    for stack in ("encoder", "decoder"):
        flags[f"{stack}_embed_dim"] = shape.dim
        flags[f"{stack}_ffn_embed_dim"] = shape.ffn
        flags[f"{stack}_attention_heads"] = shape.heads
    model = build(
        on_task=on_task,
        init_type="adaptive" if shape.omegas else "default",
        admin_omega={},
        share_all_embeddings=True,
        checkpoint_activations=checkpointing,
        dropout=0.1,
        attention_dropout=0.1,
        activation_dropout=0.1,
        **flags,
    )
    return model.train(), on_task


def loss_of(model, on_task, shape, sentences, source, target):
    torch.manual_seed(1)
    src = torch.randint(4, shape.types, (sentences, source))
    tgt = torch.randint(4, shape.types, (sentences, target))
    lengths = torch.full((sentences,), source)
    inputs = {"src_tokens": src, "src_lengths": lengths, "prev_output_tokens": tgt}
    sample = {"net_input": inputs, "target": tgt, "ntokens": sentences * target}
    return LabelSmoothedCrossEntropyCriterion(on_task, True, 0.1)(model, sample)[0]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("source, target", [(7, 9), (16, 5)])
def test_operations_and_parameters_are_those_of_the_model(shape, checkpointing, source, target):
    model, on_task = model_of(shape, checkpointing)
    assert sum(weight.numel() for weight in model.parameters()) == shape.parameters
    with FlopCounterMode(display=False) as counter:
        loss_of(model, on_task, shape, 3, source, target).backward()
    text = Text.of_means(3, 3 * source, 3 * target)
    assert training_flops(shape, text, checkpointing) == counter.get_total_flops()


def test_a_model_without_omegas_has_fewer_parameters():
    with_omegas, without = Shape(2, 3, 32, 64, 2, 56), Shape(2, 3, 32, 64, 2, 56, omegas=False)
    assert with_omegas.parameters - without.parameters == (2 * 2 + 3 * 3) * 32
    model, _ = model_of(without)
    assert sum(weight.numel() for weight in model.parameters()) == without.parameters


def kept(shape, sentences, length, checkpointing):
    """Bytes that autograd keeps for the backward pass, weights left out."""
    model, on_task = model_of(shape, checkpointing)
    weights = {weight.untyped_storage().data_ptr() for weight in model.parameters()}
    found = {}

    def keep(value):
        storage = value.untyped_storage()
        if storage.data_ptr() not in weights:
            found[storage.data_ptr()] = (storage.nbytes(), value)
        return value

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda value: value):
        loss_of(model, on_task, shape, sentences, length, length)
    return sum(size for size, _ in found.values())


@pytest.mark.parametrize("stack", ["encoder", "decoder"])
@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("dim, ffn, heads, length", [(64, 256, 4, 16), (32, 32, 2, 40)])
def test_activations_of_a_layer_are_what_autograd_keeps(
    stack, checkpointing, dim, ffn, heads, length
):
    """What one layer more keeps; beside the layers scores are counted, at their peak."""
    few, more = {"encoder": 2, "decoder": 2}, {"encoder": 2, "decoder": 2}
    more[stack] += 1
    shapes = [Shape(**layers, dim=dim, ffn=ffn, heads=heads, types=100) for layers in (few, more)]
    measured, planned = [
        [
            kept(shape, 3, length, checkpointing),
            needed(shape, 3 * length, length, FLOAT32, checkpointing).activations,
        ]
        for shape in shapes
    ]
    assert planned[0] - measured[0] == planned[1] - measured[1]


def test_half_precision_has_float32_copies():
    shape = Shape(6, 6, 512, 2048, 8, 32768)
    alone = needed(shape, 4096, 30, FLOAT16)
    count = shape.parameters
    assert (alone.weights, alone.gradients, alone.optimizer) == (2 * count, 6 * count, 12 * count)
    several = needed(shape, 4096, 30, FLOAT16, processes=8)
    assert several.total - alone.total == 2 * count
    again = needed(shape, 4096, 30, FLOAT16, checkpointing=True)
    assert again.activations < alone.activations / 1.5 and again.weights == alone.weights


@pytest.mark.slow
@pytest.mark.subprocess
def test_measured_peaks_are_near_the_plan():
    script = REPOSITORY / "scripts" / "measure_plan.py"
    words = [sys.executable, script, "--sizes", "small"]
    out = subprocess.run(words, stdout=subprocess.PIPE, text=True, check=True).stdout
    ratios = [float(line.split("|")[5]) for line in out.splitlines()[2:]]
    assert len(ratios) == 2 and all(0.8 < ratio < 1.25 for ratio in ratios), out


def plan(capsys, *words):
    code = main(["plan", *words])
    out, err = capsys.readouterr()
    assert code == 0, err
    lines = (line.strip().partition(": ") for line in out.splitlines()[1:])
    return out.splitlines()[0], {name: value for name, _, value in lines}


def test_a_plan_before_the_data_is_there(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words = ["wmt14_en-de", "--layers", "60-12", "--gpus", "8xA100"]
    title, found = plan(capsys, *words)
    assert title == "wmt14_en-de, 60-12, on 8 x A100 (312 TFLOPS and 80 GiB each)"
    assert found["model"] == "256,448,512 parameters, 32,768 types"
    assert "4,500,966 pairs an epoch" in found["text"] and "wmt16_en_de_bpe32k" in found["text"]
    assert "in 100 epochs" in found["updates"] and found["published"].startswith("nothing")
    memory = found["memory of one GPU"], found["memory of one GPU with --checkpoint-activations"]
    assert float(memory[1].split()[0]) < float(memory[0].split()[0]) < 20
    hours = float(found["time"].split()[1])
    _, twice = plan(capsys, *words, "--utilisation", "0.2")
    assert float(twice["time"].split()[1]) == pytest.approx(hours / 2, rel=0.01)
    _, small = plan(capsys, "wmt14_en-de", "--layers", "100-100", "--gpus", "1xP100")
    assert "more than its 16 GiB: --max-tokens, or --checkpoint" in small["memory of one GPU"]
    assert small["published"].startswith("unknown hours, 8 x A100, the authors")


@pytest.mark.parametrize("name", sorted(path.stem for path in RECIPES.glob("*.ini")))
def test_every_recipe_and_depth_can_be_planned(name, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for layers in read_recipe(name, TO_TRAIN).depths:
        title, found = plan(capsys, name, "--layers", layers)
        assert title.startswith(f"{name}, {layers}, on ")
        unknown = "unknown until" in found["text"]
        assert unknown == (read_recipe(name).get("plan", "pairs") is None)
        assert unknown == found["time"].startswith("unknown until the data is prepared")


def test_published_times_are_near_the_usual_utilisation(capsys, tmp_path, monkeypatch):
    """The default is said to be what they come to."""
    monkeypatch.chdir(tmp_path)
    reached = []
    for name in ("wmt14_en-de", "wmt14_en-fr"):
        for layers in read_recipe(name).depths:
            took = read_recipe(name).get("plan", "took", layers)
            if took.startswith("unknown"):
                continue
            hours, gpus, _ = took.split(", ", 2)
            _, found = plan(capsys, name, "--layers", layers, "--gpus", gpus)
            planned = float(found["time"].split()[1].replace(",", ""))
            reached.append(0.1 * planned / float(hours.split()[0]))
    assert len(reached) == 5 and min(reached) > 0.08 and max(reached) < 0.13, reached


def test_a_plan_of_prepared_data_counts_its_tokens(tiny, capsys, monkeypatch):  # noqa: F811
    monkeypatch.chdir(tiny)
    _, found = plan(capsys, "tiny.ini", "--data", "data", "--gpus", "1xT4")
    lengths = {}
    for lang in ("en", "de"):
        lines = (tiny / "data" / "raw" / f"train.{lang}").read_text().splitlines()
        lengths[lang] = [len(line.split()) + 1 for line in lines]
    sums = [f"{sum(lengths[lang]):,}" for lang in ("en", "de")]
    pairs = len(lengths["en"])
    start = f"{pairs} pairs an epoch, {sums[0]} tokens of the source and {sums[1]} of the target"
    assert found["text"].startswith(start) and "all of its lengths" in found["text"]
    assert found["updates"].startswith("about ")
    words = (tiny / "data" / "data-bin" / "dict.en.txt").read_text().splitlines()
    types = len(words) + 4
    assert f"{types:,} types" in found["model"]


@pytest.mark.subprocess
def test_updates_an_epoch_are_those_that_fairseq_makes(tiny, capsys, monkeypatch):  # noqa: F811
    from tests.experiments.test_train_script import script

    monkeypatch.chdir(tiny)
    words = ["tiny.ini", "--data", "data"]
    _, found = plan(capsys, *words, "--max-tokens", "256", "--gpus", "1xT4")
    planned = float(found["updates"].split()[1])
    result = script("train.sh", tiny, *words, "--init-type", "default", "--cpu", "--dest", "run")
    assert result.returncode == 0, result.stdout
    log = (tiny / "run" / "train.log").read_text()
    updates = int(log.split('"train_num_updates": "')[1].split('"')[0])
    assert abs(planned - updates) <= 2


@pytest.mark.parametrize(
    "damage, message",
    [
        (lambda content: content[:20], "cannot be read as an index"),
        (lambda content: b"", "cannot be read as an index"),
        (lambda content: b"x" + content[1:], "cannot be read as an index"),
        (lambda content: content[:26] + b"\xff" * 4 + content[30:], "a sentence has no token"),
    ],
)
def test_a_damaged_data_bin_is_named(damage, message, tiny, capsys, monkeypatch):  # noqa: F811
    monkeypatch.chdir(tiny)
    data_bin = (tiny / "data" / "data-bin").resolve()
    (tiny / "data" / "data-bin").unlink()
    (tiny / "data" / "data-bin").mkdir()
    for path in data_bin.iterdir():
        content = path.read_bytes()
        if path.name == "train.en-de.de.idx":
            content = damage(content)
        (tiny / "data" / "data-bin" / path.name).write_bytes(content)
    assert main(["plan", "tiny.ini", "--data", "data"]) == 1
    err = capsys.readouterr().err
    assert "train.en-de.de.idx" in err and message in err and "Traceback" not in err


def test_everything_wrong_is_said_in_one_message(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words = ["wmt14_en-de", "--layers", "six", "--gpus", "8xQ7", "--utilisation", "0"]
    assert main(["plan", *words, "--init-type", "admn", "--data", "nowhere"]) == 1
    err = capsys.readouterr().err
    assert err.count("admin-fairseq: error:") == 1
    for part in ("--layers six", "--gpus 8xQ7", "--utilisation 0", "--init-type admn", "nowhere"):
        assert part in err
    assert main(["plan", "no-recipe"]) == 1


@pytest.mark.parametrize("text", ["", "8x", "x8", "0xA100", "-1xA100", "8xA100-0GB", "8xA100x2"])
def test_gpus_that_cannot_be_read(text):
    with pytest.raises(RuntimeError, match="--gpus"):
        read_gpus(text)


def test_gpus():
    assert read_gpus("8xA100")[0] == 8 and read_gpus("8xA100")[1].tflops == 312
    assert read_gpus("4 x v100-16GB")[1].memory == 16
    assert read_gpus("h100") == (1, next(gpu for gpu in KNOWN if gpu.name == "H100"))


@pytest.mark.subprocess
def test_planning_is_light_and_quick(tmp_path):
    program = tmp_path / "admin-fairseq"
    program.write_text(SEE)
    words = ["plan", "wmt14_en-de", "--layers", "60-12", "--gpus", "8xA100"]
    before = os.times()
    subprocess.run([sys.executable, program, *words], cwd=tmp_path, check=True)
    after = os.times()
    spent = after.children_user + after.children_system
    assert spent - before.children_user - before.children_system < light_seconds()
