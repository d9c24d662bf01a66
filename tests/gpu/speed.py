"""Measurements beside fairseq's step: time, memory, launches, and waiting for the device."""

import collections
import re
import statistics
import warnings
from pathlib import Path

import torch
from torch.profiler import ProfilerActivity, profile

from scripts.measure_speed import seconds, step
from tests.gpu.settings import Result, Skipped, only_on_a_gpu
from tests.gpu.trainers import (
    PRECISIONS,
    SHAPES,
    VARIANTS,
    check_precision,
    free_memory,
    make_sample,
    make_trainer,
    peak_of_memory,
)

ROUNDS = 11
FEWEST = 3  # rounds that a median is taken of


def timing(settings, shape, precision, variants=tuple(VARIANTS)):
    """Whole updates of all variants in turn, and the largest memory of each.

    A round is an update of each variant, back and forth; the ratio to fairseq's is of one round, so
    that a GPU whose clock changes does not matter.

    Args:
        variants: names, fairseq's first.
    """
    check_precision(settings, precision)
    flags = PRECISIONS[precision]
    shape = SHAPES["tiny" if settings.small else shape]
    sample = make_sample(shape)
    trainers, memory = {}, {}
    for name in variants:
        need_time(settings)
        with peak_of_memory(settings.device) as peak:
            trainers[name] = make_trainer(settings, shape, VARIANTS[name], flags)
            for _ in range(3):
                step(trainers[name], sample)
            memory[name] = peak()
    times = {name: [] for name in variants}
    for number in range(FEWEST if settings.small else ROUNDS):
        if number >= FEWEST and settings.left < 15:
            break
        order = variants if number % 2 == 0 else variants[::-1]
        for name in order:
            times[name].append(seconds(trainers[name], sample, settings.device))
    lines = [line_of(name, times, memory) for name in variants]
    sentences, length = shape.batch
    depth, channels = "-".join(map(str, shape.layers)), shape.dims[0]
    compared = f"update of {depth}, C {channels}, in {precision}, {sentences} x {length} tokens, "
    del trainers
    free_memory(settings.device)
    fairseqs = 1000 * statistics.median(times["fairseq"])
    return Result(
        compared + f"{len(times['fairseq'])} rounds; above 1 is faster than fairseq",
        f"fairseq's {fairseqs:.1f} ms",
        details=lines,
    )


def need_time(settings):
    if settings.left < 20:
        raise Skipped("the time is nearly used up")


def line_of(name, times, memory):
    theirs = times["fairseq"]
    ratios = sorted(one / other for one, other in zip(theirs, times[name]))
    low, high = ratios[len(ratios) // 4], ratios[-1 - len(ratios) // 4]
    line = f"{name:<22} {statistics.median(ratios):.3f} ({low:.3f} to {high:.3f}), "
    line += f"{1000 * statistics.median(times[name]):.1f} ms"
    if memory[name] is not None:
        line += f", peak {memory[name]:.0f} MiB"
    return line


MOST_LAUNCHES = 300  # of scaling, norm, clipping and step at 18-18
# CUDA's functions that give the device something to do, as the profiler names them
LAUNCH = re.compile(r"(cuda|cu)(LaunchKernel|MemcpyAsync|MemsetAsync)")
OPTIMIZERS = ["adam", "multi_tensor_adam", "fused_adam", "radam"]


def launches(settings, precision):
    """Kernels that an update at 18-18 starts: the optimizer's part, and the whole."""
    only_on_a_gpu(settings, "counting launches")
    check_precision(settings, precision)
    shape, flags = SHAPES["18-18"], PRECISIONS[precision]
    sample = make_sample(shape)
    lines, most = [], 0
    for name in OPTIMIZERS:
        need_time(settings)
        trainer = make_trainer(settings, shape, VARIANTS["admin"], f"--optimizer {name}", flags)
        for _ in range(7):  # RAdam is rectified from the sixth on
            step(trainer, sample)
        whole = count_launches(lambda trainer=trainer: step(trainer, sample))
        part = count_launches(lambda trainer=trainer: update(trainer.optimizer))
        lines.append(f"{name:<22} {part} of {whole}")
        if name != "adam":
            most = max(most, part)
        del trainer
        free_memory(settings.device)
    return Result(
        f"launches of scaling, norm, clipping and step at 18-18 in {precision}, ours",
        str(most),
        0 < most < MOST_LAUNCHES,
        f"fewer than {MOST_LAUNCHES}",
        lines,
    )


def update(optimizer):
    """What fairseq's trainer does after the backward pass, with the gradients that are there."""
    optimizer._needs_sync = True  # as backward() leaves it
    optimizer.multiply_grads(0.5)
    optimizer.clip_grad_norm(1.0)
    optimizer.step()
    optimizer.zero_grad()


def count_launches(function):
    torch.cuda.synchronize()
    with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as recorded:
        function()
        torch.cuda.synchronize()
    return sum(bool(LAUNCH.match(event.name)) for event in recorded.events())


def synchronisations(settings, precision):
    """How often an update waits for the device, by depth: no layer of ours may add to fairseq's.

    torch warns at each, from the line that asks for it.
    """
    only_on_a_gpu(settings, "counting synchronisations")
    check_precision(settings, precision)
    names = ["fairseq", "admin", "criterion, fused Adam"]
    counts, places = {}, {}
    for name in names:
        for depth in ("shallow", "deep"):
            shape = SHAPES[depth]
            trainer = make_trainer(settings, shape, VARIANTS[name], PRECISIONS[precision])
            sample = make_sample(shape, padding=True)
            for _ in range(3):
                step(trainer, sample)
            found = waits(lambda trainer=trainer, sample=sample: step(trainer, sample))
            counts[name, depth], places[name] = sum(found.values()), found
    layers = sum(SHAPES["deep"].layers) - sum(SHAPES["shallow"].layers)
    grown = {name: counts[name, "deep"] - counts[name, "shallow"] for name in names}
    lines = []
    for name in names:
        most = ", ".join(f"{place} x{count}" for place, count in places[name].most_common(6))
        lines.append(f"{name:<22} {counts[name, 'deep']}, at {most}")
    figures = [f"{name} {grown[name]}, {counts[name, 'shallow']} in all" for name in names]
    # 0 of fairseq's would mean that torch does not warn: its trainer reads the norm of gradients
    passed = counts["fairseq", "deep"] > 0 and all(
        grown[name] <= grown["fairseq"] and counts[name, "deep"] <= counts["fairseq", "deep"] + 4
        for name in names
    )
    return Result(
        f"synchronisations that {layers} more layers add to an update in {precision}",
        "; ".join(figures),
        passed,
        "not more than fairseq's, and 4 more in all",
        lines,
    )


def waits(function):
    """Count the places where a function waits for the device."""
    torch.cuda.synchronize()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn")
        try:
            function()
        finally:
            torch.cuda.set_sync_debug_mode("default")
    places = collections.Counter()
    for warning in caught:
        if "synchronizing CUDA operation" in str(warning.message):
            places[f"{Path(warning.filename).name}:{warning.lineno}"] += 1
    return places
