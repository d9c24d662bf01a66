"""torch.load, which refuses by default what fairseq keeps in its checkpoints."""

import argparse
import functools
import io

import torch

from .marks import is_mended, mark


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
    if is_mended(original) or not hasattr(torch.serialization, "add_safe_globals"):
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

    distributed_utils._broadcast_object_slow = mark(broadcast_object)
