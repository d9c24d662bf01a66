"""Half precision where fairseq takes it for something else."""

import functools

from .marks import is_mended, mark


def train_bf16_without_tpu():
    """``--bf16`` makes fairseq's command line set tpu, and training fails where there is no torch_xla."""
    from fairseq import utils
    from fairseq.distributed import utils as distributed_utils

    original = distributed_utils.call_main
    if is_mended(original):
        return

    @functools.wraps(original)
    def call_main(cfg, main, **kwargs):
        if (
            cfg.common.bf16
            and getattr(cfg.common, "tpu", False)
            and getattr(utils, "xm", None) is None
        ):
            for section in cfg.values():
                if getattr(section, "tpu", None) is not None:
                    section.tpu = False
        return original(cfg, main, **kwargs)

    distributed_utils.call_main = mark(call_main)
