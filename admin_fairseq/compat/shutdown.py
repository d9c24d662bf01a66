"""Ending a process in the middle of an epoch."""

import contextlib
import queue
import threading
import time


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
