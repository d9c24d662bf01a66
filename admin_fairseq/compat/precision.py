"""Half precision where fairseq means something else by it."""

import functools
from collections.abc import Callable
from typing import Any

from .marks import is_mended, mark


def train_bf16_without_tpu() -> None:
    """Have ``--bf16`` work where there is no torch_xla.

    fairseq's command line makes it set tpu as well, and training fails.
    """
    from fairseq import utils
    from fairseq.distributed import utils as distributed_utils

    original = distributed_utils.call_main
    if is_mended(original):
        return

    @functools.wraps(original)
    def call_main(cfg: Any, main: Callable[..., Any], **kwargs: Any) -> Any:
        # fairseq imports torch_xla as xm, or leaves None
        has_xla = getattr(utils, "xm", None) is not None
        if cfg.common.bf16 and getattr(cfg.common, "tpu", False) and not has_xla:
            for section in cfg.values():
                if getattr(section, "tpu", None) is not None:
                    section.tpu = False
        return original(cfg, main, **kwargs)

    distributed_utils.call_main = mark(call_main)
