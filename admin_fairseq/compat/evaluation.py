"""fairseq calls ``eval`` on flags, and a checkpoint may bring them: here they are read as values.

``fairseq.utils.eval_str_list``, ``eval_str_dict`` and ``eval_bool`` serve command lines and stored
flags alike; some models call ``eval`` themselves. In all of these the name now means
:func:`admin_fairseq.literal.literal`, which knows all that flags hold: numbers, lists,
dictionaries, ``[(512, 3)] * 20``.
"""

import importlib
import sys
from types import ModuleType
from typing import Optional

from ..literal import literal

# those of fairseq's modules that call eval on a flag (main branch; found with grep)
_CALLERS = (
    "utils",
    "optim.adam",
    "optim.adafactor",
    "optim.adamax",
    "optim.cpu_adam",
    "optim.fused_lamb",
    "criterions.ctc",
    "models.fconv",
    "models.fconv_lm",
    "models.fconv_self_att",
    "models.lightconv_lm",
    "models.transformer_lm",
    "models.hubert.hubert",
    "models.multires_hubert.multires_hubert",
    "models.speech_to_text.s2t_wav_transformer",
    "models.wav2vec.wav2vec",
    "models.wav2vec.wav2vec2",
    "data.audio.raw_audio_dataset",
    "data.codedataset",
    "dataclass.utils",
)


def evaluate_no_flags() -> None:
    """Have every caller of ``eval`` in fairseq read values instead."""
    for name in _CALLERS:
        module = _imported(f"fairseq.{name}")
        if module is not None:
            # a module's own name comes before the builtin one
            vars(module).setdefault("eval", literal)


def _imported(name: str) -> Optional[ModuleType]:
    """Return a module, if this release of fairseq has it and what it needs."""
    try:
        return sys.modules.get(name) or importlib.import_module(name)
    except ImportError:
        return None
