"""Checkpoints: reading and writing them, and models from them.

- ``verify``    is the file what was written: checksums, finite weights
- ``flags``     the flags in it, checked before anything is made of them
- ``read``      reading and writing
- ``rebuild``   from a checkpoint to its model
- ``assemble``  a checkpoint from flags and weights
"""

from .assemble import assemble, cfg_of
from .read import load_checkpoint, read, save_checkpoint
from .rebuild import (
    check_architecture,
    check_layers,
    construct,
    current_names,
    rebuild,
    restore,
    stored_args,
    whole,
)
from .verify import check_file, check_finite

__all__ = [
    "assemble",
    "cfg_of",
    "check_architecture",
    "check_file",
    "check_finite",
    "check_layers",
    "construct",
    "current_names",
    "load_checkpoint",
    "read",
    "rebuild",
    "restore",
    "save_checkpoint",
    "stored_args",
    "whole",
]
