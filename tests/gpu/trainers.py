"""fairseq's Trainer on made-up batches: what is compared, in which precision and shape."""

import contextlib
import gc
import logging
import warnings

import torch

from scripts.measure_speed import Shape, build_trainer
from tests.gpu.settings import Skipped, only_on_a_gpu
from tests.helpers import batch

STOCK = "--arch transformer --criterion label_smoothed_cross_entropy --optimizer adam"
ADMIN = "--arch admin_transformer --init-type analytic"
CRITERION = "--criterion fused_label_smoothed_cross_entropy"
# name -> flags, of which later ones win. The first is what the others are compared with; a new
# flag for speed is a new line
VARIANTS = {
    "fairseq": STOCK,
    "admin": f"{STOCK} {ADMIN}",
    "criterion": f"{STOCK} {ADMIN} {CRITERION}",
    "multi-tensor Adam": f"{STOCK} {ADMIN} --optimizer multi_tensor_adam",
    "fused Adam": f"{STOCK} {ADMIN} --optimizer fused_adam",
    "criterion, fused Adam": f"{STOCK} {ADMIN} {CRITERION} --optimizer fused_adam",
}
PRECISIONS = {
    "fp32": "",
    "fp16": "--fp16",
    "bf16": "--bf16",
    "amp": "--amp",
    "memory-efficient-bf16": "--memory-efficient-bf16",
}
TYPES_OF_WEIGHTS = {"fp16": torch.float16, "bf16": torch.bfloat16}


SHAPES = {
    "6-6": Shape((6, 6), (512, 2048, 8), 10_000, (128, 32)),
    "18-18": Shape((18, 18), (512, 2048, 8), 10_000, (128, 32)),
    "60-12": Shape((60, 12), (512, 2048, 8), 10_000, (128, 32)),
    "shallow": Shape((3, 3), (64, 128, 4), 500, (8, 16)),
    "deep": Shape((9, 9), (64, 128, 4), 500, (8, 16)),
    "tiny": Shape((2, 2), (32, 64, 4), 200, (4, 8)),
}


def prepare(settings):
    """Make a process ready for checks; float32 is float32, not TF32."""
    logging.disable(logging.WARNING)
    warnings.simplefilter("ignore")
    torch.set_float32_matmul_precision("highest")
    if settings.device == "cuda":
        if not torch.cuda.is_available():
            raise SystemExit("torch.cuda.is_available() is False: this torch sees no GPU")
        torch.cuda.init()
    else:
        torch.set_num_threads(1)


def check_precision(settings, name):
    """Raise Skipped for what a CPU, or this GPU, does not have."""
    if name in ("fp16", "amp"):
        only_on_a_gpu(settings, f"--{name} of fairseq's")
    if "bf16" in name and settings.device == "cuda" and not torch.cuda.is_bf16_supported():
        raise Skipped("this GPU has no bfloat16")


def autocast(settings, name):
    """Return the context that fairseq runs a forward pass of a precision in."""
    return torch.autocast(settings.device, dtype=torch.float16, enabled=name == "amp")


def make_trainer(settings, shape, *flags):
    """Return a trainer of a fresh model; flags as they are written, later ones win."""
    return build_trainer(" ".join(flags).split(), shape, settings.device)


def make_sample(shape, padding=False):
    sentences, length = shape.batch
    sample = batch(shape.types, sentences, length, length, padding=padding)
    return {"id": torch.arange(sentences), **sample}


@contextlib.contextmanager
def peak_of_memory(device):
    """Give a function that returns the largest memory since the beginning, in MiB, beyond what was
    in use then; None on a CPU.
    """
    if device != "cuda":
        yield lambda: None
        return
    free_memory(device)
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    # fairseq's trainer sets the peak back at the end of every update
    reset = torch.cuda.reset_peak_memory_stats
    torch.cuda.reset_peak_memory_stats = lambda *_: None
    try:
        yield lambda: (torch.cuda.max_memory_allocated() - before) / 2**20
    finally:
        torch.cuda.reset_peak_memory_stats = reset


def free_memory(device):
    gc.collect()
    if device == "cuda":
        torch.cuda.empty_cache()
