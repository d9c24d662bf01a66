"""Mends for fairseq on today's Python, torch and numpy; each does nothing where fairseq is sound.

Importing the package applies them: ``--user-dir`` imports it while the command line is parsed,
before any file is read. What is broken was measured on ve-fairseq 0.12.3 (fairseq's main branch)
with torch 2.13 and numpy 2.3.
"""

import argparse
import atexit
import contextlib
import functools
import io
import logging
import queue
import threading
import time

import numpy as np
import torch


def apply():
    """Apply every mend. Applying them twice changes nothing."""
    # fairseq asks for tensorboardX on import, even of those who read a table
    logging.getLogger("fairseq.tasks.text_to_speech").setLevel(logging.WARNING)
    allow_checkpoint_classes()
    trust_broadcasts()
    keep_last_batch()
    restore_numpy_names()
    train_bf16_without_tpu()
    atexit.unregister(stop_data_loading)
    atexit.register(stop_data_loading)


def allow_checkpoint_classes():
    """torch >= 2.6 unpickles allow-listed classes only, and fairseq's checkpoints hold a Namespace.

    It is a plain record: allowing it lets no code run. Everything else stays refused.
    """
    if hasattr(torch.serialization, "add_safe_globals"):
        torch.serialization.add_safe_globals([argparse.Namespace])


def trust_broadcasts():
    """Resuming with several processes: rank 0 sends the state it has read, which holds DictConfigs.

    fairseq sends it through torch.save and torch.load. That data comes from our own rank 0, so
    there, and only there, loading may be complete; files stay restricted.
    """
    from fairseq.distributed import utils as distributed_utils

    original = distributed_utils._broadcast_object_slow
    if _mended(original) or not hasattr(torch.serialization, "add_safe_globals"):
        return

    @functools.wraps(original)
    def broadcast_object(obj, src_rank, group, dist_device):
        broadcast = distributed_utils.broadcast
        if distributed_utils.get_rank(group) == src_rank:
            return original(obj, src_rank, group, dist_device)
        length = torch.zeros(1, dtype=torch.long, device=dist_device)
        broadcast(length, src=src_rank, group=group)
        data = torch.empty(int(length.item()), dtype=torch.uint8, device=dist_device)
        broadcast(data, src=src_rank, group=group)
        return torch.load(io.BytesIO(data.cpu().numpy().tobytes()), map_location="cpu", weights_only=False)

    distributed_utils._broadcast_object_slow = _mark(broadcast_object)


def keep_last_batch():
    """fairseq's main branch drops the last batch if its size is no multiple of

    ``--required-batch-size-multiple`` (8): of 60 test sentences 56 were translated, exit code 0.
    The mend puts the missing tail back as a last batch, as fairseq 0.12.2 has it.
    """
    from fairseq.data import data_utils

    original = data_utils.batch_by_size
    if _mended(original) or not _drops_last_batch(original):
        return

    @functools.wraps(original)
    def batch_by_size(indices, *args, **kwargs):
        if not isinstance(indices, np.ndarray):
            indices = np.fromiter(indices, dtype=np.int64, count=-1)
        batches = original(indices, *args, **kwargs)
        fixed_shapes = kwargs.get("fixed_shapes", args[5] if len(args) > 5 else None)
        if fixed_shapes is None:
            # batches are consecutive, so what is missing is the end of the indices
            tail = indices[sum(len(batch) for batch in batches) :]
            if len(tail):
                batches = list(batches) + [tail]
        return batches

    data_utils.batch_by_size = _mark(batch_by_size)


def _drops_last_batch(batch_by_size):
    lengths = np.ones(3, dtype=np.int64)
    batches = batch_by_size(
        np.arange(3), lambda i: 1, lengths, max_tokens=8, required_batch_size_multiple=2
    )
    return sum(len(batch) for batch in batches) < 3


def restore_numpy_names():
    """numpy 2 has no ``np.compat``; fairseq wants ``np.compat.long`` (``--sample-break-mode eos``,

    ``--num-batch-buckets``). numpy 2.4 has no ``percentile(interpolation=)``, which setup.py keeps out.
    """
    if not hasattr(np, "compat"):
        np.compat = argparse.Namespace(long=int)


def train_bf16_without_tpu():
    """``--bf16`` makes fairseq's command line set tpu, and training fails where there is no torch_xla."""
    from fairseq import utils
    from fairseq.distributed import utils as distributed_utils

    original = distributed_utils.call_main
    if _mended(original):
        return

    @functools.wraps(original)
    def call_main(cfg, main, **kwargs):
        if cfg.common.bf16 and getattr(cfg.common, "tpu", False) and getattr(utils, "xm", None) is None:
            for section in cfg.values():
                if getattr(section, "tpu", None) is not None:
                    section.tpu = False
        return original(cfg, main, **kwargs)

    distributed_utils.call_main = _mark(call_main)


def stop_data_loading(patience=10):
    """End fairseq's data-loading threads, before the interpreter does.

    fairseq loads batches ahead in a daemon thread. A process that ends in the middle of an epoch
    (stage 1, ``--max-update``, an error) may catch it inside torch, and then Python's shutdown aborts:
    "terminate called without an active exception", exit code 134, once in some dozen runs. Run at
    exit; waits ``patience`` seconds at the most.
    """
    from fairseq.data.iterators import BackgroundConsumer

    deadline = time.monotonic() + patience
    for thread in threading.enumerate():
        if isinstance(thread, BackgroundConsumer):
            thread._max_len = 0  # it looks at this after each batch
            while thread.is_alive() and time.monotonic() < deadline:
                with contextlib.suppress(queue.Empty):  # it may wait for room in its queue
                    thread._queue.get(timeout=0.05)


def _mark(function):
    function.mended_by_admin_fairseq = True
    return function


def _mended(function):
    return getattr(function, "mended_by_admin_fairseq", False)
