"""Peak memory of trainings on the CPU, beside what ``admin-fairseq plan`` says that they need.

    python scripts/measure_plan.py

Each size is a process of its own, in float32: two updates with RAdam, each of two batches whose
gradients are added up. The peak is the growth of the process's resident set from before the model
is built, after a small model has been trained (so that libraries are loaded).
"""

import argparse
import multiprocessing
import os
import resource

# memory that is freed goes back at once: else the peak would be malloc's, not the training's
os.environ.update(MALLOC_MMAP_THRESHOLD_="131072", MALLOC_TRIM_THRESHOLD_="131072")

import torch
from fairseq.criterions.label_smoothed_cross_entropy import (
    LabelSmoothedCrossEntropyCriterion,
)
from fairseq.data import Dictionary
from fairseq.models import ARCH_CONFIG_REGISTRY, ARCH_MODEL_REGISTRY
from fairseq.tasks.translation import TranslationConfig, TranslationTask

import admin_fairseq  # noqa: F401
from admin_fairseq.experiments.plan.memory import FLOAT32, needed
from admin_fairseq.experiments.plan.shape import Shape
from admin_fairseq.optim import MultiTensorRAdam

MIB = 2**20
# the model's sizes; sentences, tokens a sentence
SIZES = {
    "small": (Shape(6, 6, 128, 512, 4, 4000), 16, 32),
    "deep": (Shape(24, 12, 128, 512, 4, 1000), 16, 32),
    "wide": (Shape(2, 2, 512, 2048, 8, 8000), 16, 32),
}


def build(shape, checkpointing):
    words = Dictionary()
    for number in range(shape.types - words.nspecial):
        words.add_symbol(str(number))
    task = TranslationTask(TranslationConfig(source_lang="en", target_lang="de"), words, words)
    values = dict(
        arch="admin_transformer",
        init_type="adaptive",
        admin_omega={},
        share_all_embeddings=True,
        checkpoint_activations=checkpointing,
        min_params_to_wrap=int(1e8),
        dropout=0.1,
        attention_dropout=0.1,
        activation_dropout=0.1,
    )
    for stack, layers in (("encoder", shape.encoder), ("decoder", shape.decoder)):
        values[f"{stack}_layers"] = layers
        values[f"{stack}_embed_dim"] = shape.dim
        values[f"{stack}_ffn_embed_dim"] = shape.ffn
        values[f"{stack}_attention_heads"] = shape.heads
    args = argparse.Namespace(**values)
    ARCH_CONFIG_REGISTRY[args.arch](args)
    return ARCH_MODEL_REGISTRY[args.arch].build_model(args, task).train(), task


def train(shape, sentences, length, checkpointing):
    model, task = build(shape, checkpointing)
    criterion = LabelSmoothedCrossEntropyCriterion(task, True, 0.1)
    tokens = torch.randint(4, shape.types, (sentences, length))
    lengths = torch.full((sentences,), length)
    inputs = {"src_tokens": tokens, "src_lengths": lengths, "prev_output_tokens": tokens}
    sample = {"net_input": inputs, "target": tokens, "ntokens": sentences * length}
    optimizer = MultiTensorRAdam(model.parameters(), lr=1e-5, decoupled_weight_decay=True)
    for _ in range(2):
        for _ in range(2):
            criterion(model, sample)[0].backward()
        optimizer.step()
        model.zero_grad()


def peak(queue, shape, sentences, length, checkpointing):
    train(Shape(1, 1, 64, 64, 1, 100), 2, 8, checkpointing)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    train(shape, sentences, length, checkpointing)
    queue.put((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024)


def measure(shape, sentences, length, checkpointing):
    """Return the peak in bytes, of a process of its own."""
    context = multiprocessing.get_context("spawn")
    queue = context.Queue()
    process = context.Process(target=peak, args=(queue, shape, sentences, length, checkpointing))
    process.start()
    process.join()
    if process.exitcode:
        raise SystemExit(f"a training ended with exit code {process.exitcode}")
    return queue.get()


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", nargs="+", choices=SIZES, default=list(SIZES))
    chosen = parser.parse_args().sizes
    print("| size | checkpoints | measured, MiB | planned, MiB | planned / measured |")
    print("|---|---|---|---|---|")
    for name in chosen:
        shape, sentences, length = SIZES[name]
        for checkpointing in (False, True):
            found = measure(shape, sentences, length, checkpointing)
            planned = needed(shape, sentences * length, length, FLOAT32, checkpointing).total
            word = "yes" if checkpointing else "no"
            print(
                f"| {name} | {word} | {found / MIB:.0f} | {planned / MIB:.0f} | "
                f"{planned / found:.2f} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
