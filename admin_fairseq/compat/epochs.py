"""What loaded an epoch ends with it: ``--update-epoch-batch-itr``, shards, other datasets."""

import functools
from collections.abc import Callable
from typing import Any

from .marks import is_mended, mark


def end_workers_of_past_epochs() -> None:
    """Let the data-loading processes of an epoch end when the next one begins.

    With ``--update-epoch-batch-itr True``, with data in several folders, and with datasets that
    sample anew, fairseq makes an iterator with processes of its own (``--num-workers``) for each
    epoch. The iterator refers to itself by way of its batch sampler, so that only Python's
    collector of cycles frees it, which hardly ever looks at objects that old: one process an epoch
    stays, with a copy of what the training had in memory, until there is none left.
    """
    from fairseq.trainer import Trainer

    if is_mended(Trainer.get_train_iterator, "epochs"):
        return
    Trainer.get_train_iterator = mark(_ending_the_past(Trainer.get_train_iterator), "epochs")
    Trainer.get_valid_iterator = mark(_ending_the_past(Trainer.get_valid_iterator), "epochs")


def _ending_the_past(get: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(get)
    def get_iterator(self: Any, *args: Any, **kwargs: Any) -> Any:
        iterator = get(self, *args, **kwargs)
        # of training one, whose first argument is the epoch; of validation one a subset
        subset = kwargs.get("subset", args[0] if args else None)
        key = subset if isinstance(subset, str) else None
        known = self.__dict__.setdefault("_admin_iterators", {})
        past = known.get(key)
        if past is not None and past is not iterator:
            # its loop has ended: fairseq asks for the next one after it
            for name in ("_cur_epoch_itr", "dataloader", "epoch_batch_sampler"):
                if hasattr(past, name):
                    setattr(past, name, None)
        known[key] = iterator
        return iterator

    return get_iterator
