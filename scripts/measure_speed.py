"""What the flags for speed gain: whole training steps against stock fairseq, and peak memory.

Two trainers take the same batch in turn (A B, B A, A B, ...), each a whole ``train_step`` of
fairseq's Trainer: forward, backward, norm, update, log. A ratio is taken pair by pair, so that a
machine whose speed drifts does not matter; on the CPU time is the process's own, so that neighbours
matter less. With --keep-memory each turn of a side is a process of its own, and the second side's
glibc keeps memory as that of the recipes' commands does. Peak memory is the growth of the resident
set of a process of its own over three updates, from the moment the model is built; on a GPU,
torch's own count.
"""

import argparse
import logging
import multiprocessing
import os
import re
import statistics
import time
import warnings
from dataclasses import dataclass

import torch
from fairseq import options
from fairseq.data import Dictionary
from fairseq.dataclass.utils import convert_namespace_to_omegaconf
from fairseq.tasks.translation import TranslationTask
from fairseq.trainer import Trainer
from torch.nn import functional

from admin_fairseq.experiments.processes import keeping_memory
from admin_fairseq.fused_loss import fused_loss


@dataclass(frozen=True)
class Shape:
    """Layers of the two stacks, dims (C, feed-forward, heads), types, sentences and tokens."""

    layers: tuple
    dims: tuple
    types: int
    batch: tuple


SHAPES = {
    "18-18-64": Shape((18, 18), (64, 128, 4), 500, (32, 32)),
    "4-4-128": Shape((4, 4), (128, 256, 4), 9_700, (64, 16)),
    "6-6-64": Shape((6, 6), (64, 256, 4), 10_000, (16, 32)),
    "6-6-128": Shape((6, 6), (128, 512, 4), 10_000, (16, 32)),
    "6-6-256": Shape((6, 6), (256, 1024, 4), 10_000, (16, 32)),
    "6-6-base": Shape((6, 6), (512, 2048, 8), 10_000, (16, 32)),
    "18-18-512": Shape((18, 18), (512, 1024, 4), 10_000, (16, 32)),
    "60-12-512": Shape((60, 12), (512, 2048, 8), 10_000, (8, 32)),
    "60-12-64": Shape((60, 12), (64, 128, 4), 500, (32, 32)),
    "100-100-64": Shape((100, 100), (64, 128, 4), 500, (32, 32)),
}
DEFAULT_SHAPES = ["18-18-64", "4-4-128", "6-6-base", "18-18-512"]
STOCK = ["--arch", "transformer", "--criterion", "label_smoothed_cross_entropy"]
ADMIN = ["--arch", "admin_transformer", "--init-type", "analytic"]
CRITERION = ["--criterion", "fused_label_smoothed_cross_entropy"]
LAYERS = ["--fused-layers"]
BOTH = [*STOCK, *ADMIN, *CRITERION, "--optimizer", "fused_adam"]
ALL = [*BOTH, *LAYERS]
# what is measured -> the flags of its two sides; the time of the first by that of the second
VARIANTS = {
    "nothing": (STOCK, STOCK),
    "omegas": (STOCK, [*STOCK, *ADMIN]),
    "criterion": (STOCK, [*STOCK, *ADMIN, *CRITERION]),
    "multi-tensor Adam": (STOCK, [*STOCK, *ADMIN, "--optimizer", "multi_tensor_adam"]),
    "fused Adam": (STOCK, [*STOCK, *ADMIN, "--optimizer", "fused_adam"]),
    "both": (STOCK, BOTH),
    "layers": (STOCK, [*STOCK, *ADMIN, *LAYERS]),
    "all": (STOCK, ALL),
    "amp": (STOCK, [*STOCK, *ADMIN, "--amp"]),
    "amp and both": (STOCK, [*BOTH, "--amp"]),
    "amp and all": (STOCK, [*ALL, "--amp"]),
    # what bfloat16 alone gains; both sides have the other flags
    "amp over both": (BOTH, [*BOTH, "--amp"]),
}


def make_trainer(flags, shape, args):
    return build_trainer([*args.flags.split(), *flags], shape, args.device)


def build_trainer(flags, shape, device):
    """Return fairseq's Trainer of a fresh model; of flags that are given twice the later counts."""
    (channels, inner, heads), layers = shape.dims, shape.layers
    words = ["no-data", "--optimizer", "adam", "--adam-betas", "(0.9, 0.98)", "--lr", "1e-5"]
    words += ["--lr-scheduler", "fixed", "--label-smoothing", "0.1", "--dropout", "0.1"]
    words += ["--share-all-embeddings", "--max-tokens", "9999", "--seed", "1"]
    words += ["--distributed-world-size", "1"]
    words += ["--encoder-layers", str(layers[0]), "--decoder-layers", str(layers[1])]
    for stack in ("encoder", "decoder"):
        words += [f"--{stack}-embed-dim", str(channels), f"--{stack}-ffn-embed-dim", str(inner)]
        words += [f"--{stack}-attention-heads", str(heads)]
    words += flags
    if device == "cpu":
        words.append("--cpu")
    namespace = options.parse_args_and_arch(options.get_training_parser(), input_args=words)
    namespace.tpu = False  # which --bf16 sets; in fairseq-train the plugin takes it back
    cfg = convert_namespace_to_omegaconf(namespace)
    types = Dictionary()
    for number in range(shape.types - types.nspecial):
        types.add_symbol(str(number))
    cfg.task.source_lang, cfg.task.target_lang = "en", "de"
    task = TranslationTask(cfg.task, types, types)
    torch.manual_seed(1)
    model = task.build_model(cfg.model)
    trainer = Trainer(cfg, task, model, task.build_criterion(cfg.criterion))
    trainer.lr_step_begin_epoch(1)
    return trainer


def make_sample(shape, padding):
    sentences, length = shape.batch
    generator = torch.Generator().manual_seed(1)
    tokens = torch.randint(4, shape.types, (sentences, length), generator=generator)
    target = tokens.clone()
    # the share of padding is that of the whole batch; the shortest sentence has twice of it
    lengths = torch.linspace(length, length * (1 - 2 * padding), sentences).round().long()
    for row, kept in enumerate(lengths.tolist()):
        target[row, kept:] = 1
    previous = torch.cat([torch.full((sentences, 1), 2), target[:, :-1]], dim=1)
    return {
        "id": torch.arange(sentences),
        "net_input": {
            "src_tokens": tokens,
            "src_lengths": torch.full((sentences,), length),
            "prev_output_tokens": previous,
        },
        "target": target,
        "ntokens": int(target.ne(1).sum()),
        "nsentences": sentences,
    }


def step(trainer, sample):
    """One update. fairseq skips a batch that is too large in silence; here it is an error."""
    trainer.train_step([sample], raise_oom=True)


def seconds(trainer, sample, device):
    """The time of an update: of the GPU by its own clock, of the CPU by that of the process."""
    if device != "cuda":
        start = time.process_time()
        step(trainer, sample)
        return time.process_time() - start
    torch.cuda.synchronize()
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    start.record()
    step(trainer, sample)
    end.record()
    torch.cuda.synchronize()
    return start.elapsed_time(end) / 1000


def time_pairs(shape, variant, args):
    """Return the ratios of the pairs, and the median time of the first side."""
    trainers = [make_trainer(flags, shape, args) for flags in VARIANTS[variant]]
    sample = make_sample(shape, args.padding)
    for trainer in trainers * 2:
        step(trainer, sample)
    ratios, first = [], []
    for pair in range(args.pairs):
        order = trainers if pair % 2 == 0 else trainers[::-1]
        times = {trainer: seconds(trainer, sample, args.device) for trainer in order}
        ratios.append(times[trainers[0]] / times[trainers[1]])
        first.append(times[trainers[0]])
    return sorted(ratios), statistics.median(first)


def time_processes(shape, variant, args):
    """As :func:`time_pairs`, each turn in a process of its own; also peaks, for both sides."""
    sides = [({}, VARIANTS[variant][0]), (keeping_memory({}), VARIANTS[variant][1])]
    ratios, first, peaks = [], [], []
    for pair in range(args.pairs):
        found = {}
        for number in (0, 1) if pair % 2 == 0 else (1, 0):
            os.environ.update(sides[number][0])
            found[number] = in_process(steps_of, sides[number][1], shape, args)
            for name in sides[number][0]:
                del os.environ[name]
        ratios.append(found[0][0] / found[1][0])
        first.append(found[0][0])
        peaks = [found[number][1] for number in (0, 1)]
    return sorted(ratios), statistics.median(first), peaks


def steps_of(flags, shape, args, results):
    """Put the median time of nine updates, after three, and the growth of memory into results."""
    quiet(args)
    trainer, sample = make_trainer(flags, shape, args), make_sample(shape, args.padding)
    before = resident("VmRSS")
    times = [seconds(trainer, sample, args.device) for _ in range(12)]
    results.put((statistics.median(times[3:]), resident("VmHWM") - before))


def peak_of(flags, shape, args, results):
    """Put the growth of memory over three updates into ``results``, in MiB."""
    quiet(args)
    trainer, sample = make_trainer(flags, shape, args), make_sample(shape, args.padding)
    before = resident("VmRSS")
    for _ in range(3):
        step(trainer, sample)
    if args.device == "cuda":
        results.put(torch.cuda.max_memory_allocated() / 2**20)
    else:
        results.put(resident("VmHWM") - before)


def resident(kind):
    """Return the process's resident set in MiB: now (VmRSS), or its peak (VmHWM).

    getrusage has the parent's peak, where that is the higher one.
    """
    with open("/proc/self/status") as file:
        return int(re.search(kind + r":\s+(\d+)", file.read())[1]) / 1024


def time_parts(shape, args):
    """Yield lines: optimizers' updates, the loss by its chunks, and products by type, in ms."""
    runs = {}
    for name in ("adam", "multi_tensor_adam", "fused_adam", "radam"):
        trainer = make_trainer([*STOCK, *ADMIN, "--optimizer", name], shape, args)
        step(trainer, make_sample(shape, args.padding))
        runs[name] = trainer.optimizer.step
    yield in_turn(runs, args)
    channels = shape.dims[0]
    features = torch.randn(512, channels, requires_grad=True)
    weight = torch.randn(shape.types, channels, requires_grad=True)
    target = torch.randint(shape.types, (512,))
    runs = {}
    for rows in (16, 32, 64, 128, 256, 512):
        runs[f"{rows} rows"] = lambda rows=rows: torch.autograd.grad(
            fused_loss(features, weight, target, 0.1, rows=rows).loss, (features, weight)
        )
    yield "512 positions, chunks of " + in_turn(runs, args)
    sentences, length = shape.batch
    heads, runs = shape.dims[2], {}
    for dtype in (torch.float32, torch.bfloat16):
        size = (3, sentences, heads, length, channels // heads)
        inputs = torch.randn(size, dtype=dtype, requires_grad=True)
        runs[f"in {dtype}"] = lambda inputs=inputs: torch.autograd.grad(
            functional.scaled_dot_product_attention(*inputs).sum(), inputs
        )
    yield "attention's operator with its gradient " + in_turn(runs, args)
    runs = {}
    for dtype in (torch.float32, torch.bfloat16):
        x = torch.randn(512, channels, dtype=dtype, requires_grad=True)
        weight = torch.randn(shape.dims[1], channels, dtype=dtype, requires_grad=True)
        runs[f"in {dtype}"] = lambda x=x, weight=weight: torch.autograd.grad(
            functional.linear(x, weight).sum(), (x, weight)
        )
    yield f"512 x {channels} by {channels} x {shape.dims[1]}, with gradients " + in_turn(runs, args)


def in_turn(runs, args):
    """Return the median times of functions that are called in turn, as text."""
    times = {name: [] for name in runs}
    for turn in range(args.pairs + 6):  # RAdam is rectified from the sixth on
        for name, run in runs.items():
            start = time.process_time()
            run()
            if turn >= 6:
                times[name].append(1000 * (time.process_time() - start))
    return ", ".join(f"{name} {statistics.median(times[name]):.1f} ms" for name in runs)


def in_process(function, flags, shape, args):
    """Return what a function puts into its results, in a new process."""
    context = multiprocessing.get_context("spawn")
    results = context.Queue()
    process = context.Process(target=function, args=(flags, shape, args, results))
    process.start()
    value = results.get()
    process.join()
    return value


def quiet(args):
    logging.disable(logging.WARNING)
    warnings.simplefilter("ignore")
    torch.set_num_threads(args.threads)


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--shapes", nargs="+", default=DEFAULT_SHAPES, choices=SHAPES)
    parser.add_argument("--variants", nargs="+", default=list(VARIANTS)[1:], choices=VARIANTS)
    parser.add_argument("--pairs", type=int, default=15)
    parser.add_argument("--padding", type=float, default=0.0, help="share of the target")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--flags", default="", help="more of fairseq-train's, for both sides")
    parser.add_argument("--parts", action="store_true", help="optimizers, chunks, products alone")
    parser.add_argument("--no-memory", action="store_true")
    parser.add_argument("--keep-memory", action="store_true", help="second side: glibc's allocator")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    args = parser.parse_args()
    quiet(args)
    print(
        f"torch {torch.__version__}, {args.device}, {args.threads} thread(s), {args.pairs} pairs, "
        f"{args.padding:.0%} padding; above 1 is faster than fairseq's "
        "(amp over both: than the same without --amp)",
        flush=True,
    )
    for name in args.shapes:
        if args.parts:
            for line in time_parts(SHAPES[name], args):
                print(f"{name:11} {line}", flush=True)
            continue
        for variant in args.variants:
            peaks = None
            if args.keep_memory:
                ratios, stock, peaks = time_processes(SHAPES[name], variant, args)
            else:
                ratios, stock = time_pairs(SHAPES[name], variant, args)
            low, high = ratios[len(ratios) // 4], ratios[-1 - len(ratios) // 4]
            line = (
                f"{name:11} {variant:18} {statistics.median(ratios):.3f} ({low:.3f} to {high:.3f})"
            )
            line += f", fairseq's step {1000 * stock:.0f} ms"
            if not args.no_memory and peaks is None:
                sides = VARIANTS[variant]
                peaks = [in_process(peak_of, flags, SHAPES[name], args) for flags in sides]
            if peaks:
                line += f", peak {peaks[1]:.0f} MiB, fairseq's {peaks[0]:.0f}"
            print(line, flush=True)


if __name__ == "__main__":
    main()
