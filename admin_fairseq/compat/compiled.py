"""fairseq's compiled parts, where they have not been compiled.

Wheels of ve-fairseq exist for Python 3.11 and 3.12 on Linux x86_64. Elsewhere its Python sources
are installed, and a translation lacks two parts: ``data_utils_fast`` makes batches, and ``libbleu``
counts for ``--scoring bleu``. Other parts serve other tasks, and stay missing.
"""

import functools
import importlib
import sys
from types import ModuleType
from typing import Any

from . import python_batches
from .marks import is_mended, mark
from .python_bleu import PythonLibbleu

_BATCHES = "fairseq.data.data_utils_fast"
_BLEU = "fairseq.libbleu"


def replace_compiled_parts() -> None:
    """Put Python in the place of the compiled parts that cannot be imported; others stay."""
    if not _can_import(_BATCHES):
        _replace_batches()
    if not _can_import(_BLEU):
        _replace_bleu()


def _can_import(name: str) -> bool:
    try:
        importlib.import_module(name)
    except (ImportError, ValueError):  # ValueError: compiled against another numpy
        return False
    return True


def _replace_batches() -> None:
    module = ModuleType(_BATCHES, python_batches.__doc__)
    for name in ("batch_by_size_vec", "batch_by_size_fn", "batch_fixed_shapes_fast"):
        setattr(module, name, getattr(python_batches, name))
    sys.modules[_BATCHES] = module


def _replace_bleu() -> None:
    """Have fairseq's scorer count in Python: it would load a shared library."""
    from fairseq.scoring import bleu

    original = bleu.Scorer.__init__
    if is_mended(original):
        return

    @functools.wraps(original)
    def __init__(self: Any, cfg: Any) -> None:
        self.stat = bleu.BleuStat()
        self.pad = cfg.pad
        self.eos = cfg.eos
        self.unk = cfg.unk
        self.C = PythonLibbleu()
        self.reset()

    bleu.Scorer.__init__ = mark(__init__)
