"""Workarounds for fairseq on today's Python, torch and numpy.

Each is tested for, and does nothing where fairseq is sound. Importing the plugin applies them:
``--user-dir`` imports it while the command line is parsed, before any file is read. What is broken
was measured on ve-fairseq 0.12.3 (fairseq's main branch) with torch 2.13 and numpy 2.3. One module
an idea:

- ``loading``       torch.load refuses what fairseq keeps in its checkpoints, and takes damaged ones
- ``saving``        what fairseq saves becomes plain values
- ``evaluation``    flags are read, and not run
- ``save_dir``      one training a folder
- ``compiled``      compiled parts that are missing: ``python_batches``, ``python_bleu``
- ``batching``      the last batch
- ``sharding``      a test set split among processes
- ``diverse_beam``  diverse beam search of several sentences
- ``data``          a subset in several parts
- ``arguments``     command lines that fairseq answers with a riddle
- ``nan_detector``  the report on a loss that is not a number
- ``early_stopping``  the best score and ``--patience``
- ``ema``           ``--store-ema``
- ``numpy_names``   names that numpy 2 no longer has
- ``precision``     ``--bf16``
- ``shutdown``      ending a process in the middle of an epoch
- ``epochs``        ``--update-epoch-batch-itr``
- ``marks``         which functions have their workaround already

The modules import fairseq inside of their functions: ``needs`` imports it first, and silences what
it logs meanwhile, even to those who only read a table.
"""

import atexit

from .arguments import explain_arguments
from .batching import keep_last_batch
from .compiled import replace_compiled_parts
from .data import join_parts_without_upsampling
from .diverse_beam import count_diversity_by_row
from .early_stopping import keep_patience
from .ema import average_every_weight_once
from .epochs import end_workers_of_past_epochs
from .evaluation import evaluate_no_flags
from .loading import allow_checkpoint_classes, trust_broadcasts, verify_what_is_loaded
from .nan_detector import report_nan
from .numpy_names import restore_numpy_names
from .precision import train_bf16_without_tpu
from .save_dir import lock_save_dirs
from .saving import copy_whole_files, save_plain_values
from .sharding import shard_generation
from .shutdown import stop_data_loading


def apply() -> None:
    """Apply every workaround. Applying them twice changes nothing."""
    allow_checkpoint_classes()
    trust_broadcasts()
    verify_what_is_loaded()
    save_plain_values()
    copy_whole_files()
    evaluate_no_flags()
    lock_save_dirs()
    replace_compiled_parts()  # before what makes batches
    keep_last_batch()
    restore_numpy_names()
    train_bf16_without_tpu()
    explain_arguments()
    shard_generation()
    count_diversity_by_row()
    join_parts_without_upsampling()
    report_nan()
    keep_patience()
    average_every_weight_once()
    end_workers_of_past_epochs()
    atexit.unregister(stop_data_loading)
    atexit.register(stop_data_loading)
