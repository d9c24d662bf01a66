"""Checkpoints: reading and writing them, and models from them.

- ``verify``        is the file what was written: checksums, finite weights
- ``flag_types``    of what type, and of what size, each flag may be
- ``flags``         the flags in it, checked before anything is made of them
- ``read``          reading and writing
- ``dictionaries``  those that a model is built with
- ``rebuild``       from a checkpoint to its model
- ``assemble``      a checkpoint from flags and weights
- ``output``        may this file be written
- ``average``       the mean of several: ``admin-fairseq average``
- ``authors``       those of the authors' code: ``admin-fairseq import``
- ``grow``          with a larger vocabulary: ``admin-fairseq grow-vocabulary``
"""

from .assemble import assemble, cfg_of
from .dictionaries import load_dictionary, task_of
from .output import check_output
from .read import State, load_checkpoint, mapped, own_copy, read, save_checkpoint, updates_of
from .rebuild import (
    check_architecture,
    construct,
    rebuild,
    rebuild_and_rename,
    restore,
    restore_state,
    stored_args,
    whole,
)
from .verify import check_file, check_finite

__all__ = [
    "State",
    "assemble",
    "cfg_of",
    "check_architecture",
    "check_file",
    "check_finite",
    "check_output",
    "construct",
    "load_checkpoint",
    "load_dictionary",
    "mapped",
    "own_copy",
    "read",
    "rebuild",
    "rebuild_and_rename",
    "restore",
    "restore_state",
    "save_checkpoint",
    "stored_args",
    "task_of",
    "updates_of",
    "whole",
]
