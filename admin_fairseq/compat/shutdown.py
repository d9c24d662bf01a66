"""Ending a process in the middle of an epoch."""

import contextlib
import queue
import threading
import time


def stop_data_loading(patience: float = 10) -> None:
    """End fairseq's data-loading threads, before the interpreter does; run at exit.

    fairseq loads batches ahead in a daemon thread. A process that ends in the middle of an epoch
    (stage 1, ``--max-update``, an error) may catch it inside torch, and then Python's shutdown
    aborts: "terminate called without an active exception", exit code 134, once in some dozen runs.

    Args:
        patience: seconds to wait at the most.
    """
    from fairseq.data.iterators import BackgroundConsumer

    deadline = time.monotonic() + patience
    for thread in threading.enumerate():
        if isinstance(thread, BackgroundConsumer):
            thread._max_len = 0  # it looks at this after each batch
            while thread.is_alive() and time.monotonic() < deadline:
                with contextlib.suppress(queue.Empty):  # it may wait for room in its queue
                    thread._queue.get(timeout=0.05)
