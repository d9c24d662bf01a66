"""``fairseq-generate --num-shards N --shard-id I``: a test set split among several processes."""

import argparse
import functools
import logging
import os
from typing import Any

import torch

from ..errors import raise_all
from .marks import is_mended, mark

logger = logging.getLogger(__name__)


def shard_generation() -> None:
    """Have fairseq-generate translate one shard with ``--num-shards`` and ``--shard-id``.

    It ignores both flags, and each of the N processes translates everything. But it splits its
    batches by the world size and rank, which nothing else in it reads: so the flags are put there.
    A fairseq that reads the flags itself gets the same numbers from both.
    """
    from fairseq import options
    from fairseq.tasks import FairseqTask

    parse = options.parse_args_and_arch
    if is_mended(parse, "sharding"):
        return

    @functools.wraps(parse)
    def parse_args_and_arch(*args: Any, **kwargs: Any) -> Any:
        parsed = parse(*args, **kwargs)
        _split(parsed[0] if isinstance(parsed, tuple) else parsed)
        return parsed

    iterate = FairseqTask.get_batch_iterator

    @functools.wraps(iterate)
    def get_batch_iterator(self: Any, *args: Any, **kwargs: Any) -> Any:
        iterator = iterate(self, *args, **kwargs)
        if getattr(iterator, "num_shards", 1) > 1 and not _in_process_group():
            _end_without_batches(iterator)
        return iterator

    options.parse_args_and_arch = mark(parse_args_and_arch, "sharding")
    FairseqTask.get_batch_iterator = mark(get_batch_iterator, "sharding")


def _split(args: argparse.Namespace) -> None:
    """Have fairseq-generate translate its share alone; other commands' arguments stay as they are.

    Two processes with the same ``--results-path`` would write one file over the other's, so each
    writes into a folder of its own in it.

    Raises:
        AdminError: if there is no such shard.
    """
    # only fairseq-generate and -interactive have a beam; the latter reads its sentences from a pipe
    if not hasattr(args, "beam") or not hasattr(args, "num_shards") or hasattr(args, "buffer_size"):
        return
    if args.num_shards is None or args.shard_id is None:
        return  # read without default values
    shards, shard = args.num_shards, args.shard_id
    problems = []
    if shards < 1:
        problems.append(f"--num-shards {shards}: must be 1 or more")
    elif not 0 <= shard < shards:
        problems.append(
            f"--shard-id {shard}: with --num-shards {shards} it is from 0 to {shards - 1}"
        )
    if shards > 1 and args.distributed_world_size > 1:
        problems.append(
            f"--distributed-world-size {args.distributed_world_size} with --num-shards: use one of "
            "them"
        )
    raise_all("no such shard:", problems)
    if shards == 1:
        return
    args.distributed_world_size, args.distributed_rank = shards, shard
    if args.results_path is not None:
        args.results_path = os.path.join(args.results_path, f"shard{shard}")
        logger.warning("shard %d of %d writes to %s", shard, shards, args.results_path)


def _in_process_group() -> bool:
    return torch.distributed.is_available() and torch.distributed.is_initialized()


def _end_without_batches(iterator: Any) -> None:
    """End the process if its shard is empty: fairseq-generate would divide by the time it took."""
    batches = iterator.frozen_batches
    if iterator.shard_id >= len(batches):
        logger.warning(
            "shard %d of %d has nothing to do: there are %d batches",
            iterator.shard_id, iterator.num_shards, len(batches),
        )  # fmt: skip
        raise SystemExit(0)
