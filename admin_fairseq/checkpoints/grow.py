"""Growing a vocabulary (``admin-fairseq grow-vocabulary``): rows for a larger dictionary's words.

New text is binarised with a dictionary that is the old one and more words (``fairseq-preprocess
--srcdict --tgtdict``); the embeddings of the trained model then lack rows. Rows move with their
word; new ones start as fairseq starts embeddings. What the model puts out for the old words stays
what it was. The optimizer's state goes: the result is for fine-tuning.
"""

import logging
import os
import re
from argparse import Namespace
from collections.abc import Sequence
from typing import Any, Optional

import torch
from fairseq.data import Dictionary, data_utils

from ..errors import AdminError, raise_all
from ..options import EMBED_PATHS
from ..weights import Weights
from .assemble import assemble, cfg_of
from .dictionaries import load_dictionary, task_of
from .output import check_output
from .read import State, load_checkpoint, save_checkpoint
from .rebuild import rebuild, rebuild_and_rename, stored_args

logger = logging.getLogger(__name__)

SOURCE, TARGET = "encoder.embed_tokens.weight", "decoder.embed_tokens.weight"
OUTPUT = "decoder.output_projection.weight"
# fairseq-preprocess fills a dictionary up with these; no text holds them
_FILLING = re.compile(r"madeupword\d+")
_SHOWN = 10  # words that a message lists


def grow_vocabulary(
    path: str, output: str, old_data: str, new_data: str, seed: int = 1, force: bool = False
) -> None:
    """Write the checkpoint ``path`` with the vocabulary of ``new_data``: ``output``.

    Args:
        path: of the checkpoint to read.
        output: of the one to write.
        old_data: the model's data-bin, or a dictionary that source and target share.
        new_data: the larger one, in the same form.
        seed: of the new rows.
        force: replace an ``output`` that exists.

    Raises:
        AdminError: listing all that is wrong: words that the new dictionaries lack, dictionaries
            that are not the checkpoint's, a model that cannot be grown. Nothing is written then.
    """
    check_output(output, [path], force)
    state = load_checkpoint(path)
    args = stored_args(state, path)
    _check_can_grow(state, args, path)
    # rebuilt once as it is: what does not fit now is no matter of the new words
    _, weights = rebuild_and_rename(args, state["model"], path)
    languages = _languages_of(args, old_data, new_data)
    old = _dictionaries(old_data, languages, "--old")
    new = _dictionaries(new_data, languages, "--new")
    _check_dictionaries(weights, args, old, new, path)
    grown = grow(weights, args, old, new, seed)
    rebuild(args, grown, path, task_of(*new))  # it must load
    cfg = state.get("cfg") or cfg_of(args)
    # vectors from elsewhere were for the start
    _forget_files(cfg["model"])
    save_checkpoint(assemble(cfg, grown, state.get("optimizer_history")), output)
    logger.info(
        "source %d to %d, target %d to %d types: written to %s (without the optimizer's state)",
        len(old[0]), len(new[0]), len(old[1]), len(new[1]), output,
    )  # fmt: skip


def _forget_files(flags: Any) -> None:
    """Take the files of embeddings out of a model's flags, a Namespace or a dictionary."""
    flags = flags if isinstance(flags, dict) else vars(flags)
    for name in EMBED_PATHS:
        if name in flags:
            flags[name] = None


def _check_can_grow(state: State, args: Namespace, path: str) -> None:
    """Refuse models whose tables are not one embedding per dictionary, with every reason."""
    problems = []
    if "fsdp_metadata" in state:
        problems.append(
            "it is one shard of --use-sharded-state; continue the training without it, for a whole "
            "checkpoint"
        )
    reasons = {
        "adaptive_softmax_cutoff": "its classes are ranks of the dictionary",
        "adaptive_input": "its tables are ranks of the dictionary",
        "merge_src_tgt_embed": "its dictionary is neither of the two",
        "quant_noise_pq": "its blocks span the tables; grow before it",
    }
    for name, reason in reasons.items():
        if getattr(args, name, None):
            problems.append(f"--{name.replace('_', '-')}: {reason}")
    raise_all(f"{path}: its vocabulary cannot be grown:", problems)


def _languages_of(args: Namespace, *folders: str) -> tuple[Optional[str], Optional[str]]:
    """Return (source, target) by the checkpoint, or else the data's file names; None if unknown."""
    found = (getattr(args, "source_lang", None), getattr(args, "target_lang", None))
    for folder in folders:
        if not all(found) and os.path.isdir(folder):
            found = data_utils.infer_language_pair(folder)
    return found


def _dictionaries(data: str, languages: Sequence[Optional[str]], flag: str) -> list[Dictionary]:
    """Return the dictionaries of source and target.

    Raises:
        AdminError: naming ``flag`` and the files that do not exist or are not dictionaries.
    """
    files = [data, data]
    if os.path.isdir(data):
        if not all(languages):
            raise AdminError(
                f"{flag} {data}: its languages are unknown; name a dictionary in it instead of the "
                "folder"
            )
        files = [os.path.join(data, f"dict.{language}.txt") for language in languages]
    words, problems = [], []
    for file in files:
        try:
            words.append(load_dictionary(file))
        except AdminError as error:
            problems.append(str(error))
    raise_all(f"{flag}: dictionaries that cannot be read:", _without_repetition(problems))
    return words


def _check_dictionaries(
    weights: Weights,
    args: Namespace,
    old: Sequence[Dictionary],
    new: Sequence[Dictionary],
    path: str,
) -> None:
    """Refuse dictionaries that are not the model's, lack words, or differ for one shared table.

    Raises:
        AdminError: with every reason.
    """
    problems = []
    for side, name, before, after in zip(("source", "target"), (SOURCE, TARGET), old, new):
        rows = len(weights[name])
        if len(before) != rows:
            problems.append(
                f"--old: {len(before)} {side} types (fairseq's own included), but the model has "
                f"{rows}"
            )
        lost = [word for word in before.symbols if word not in after.indices]
        # how many fairseq-preprocess adds depends on the number of words
        lost = [word for word in lost if not _FILLING.fullmatch(word)]
        if lost:
            more = f" ... and {len(lost) - _SHOWN} more" if len(lost) > _SHOWN else ""
            problems.append(
                f"--new: {len(lost)} {side} words of the old dictionary are missing: "
                f"{' '.join(lost[:_SHOWN])}{more}"
            )
    if args.share_all_embeddings and new[0].symbols != new[1].symbols:
        problems.append(
            "--new: its two dictionaries differ, but the model has one table "
            "(--share-all-embeddings)"
        )
    raise_all(
        f"{path}: its vocabulary cannot be grown with these dictionaries:",
        _without_repetition(problems),
    )


def _without_repetition(lines: list[str]) -> list[str]:
    return list(dict.fromkeys(lines))


def grow(
    weights: Weights,
    args: Namespace,
    old: Sequence[Dictionary],
    new: Sequence[Dictionary],
    seed: int = 1,
) -> Weights:
    """Return weights with tables for ``new``: (source, target) dictionaries. Tied tables stay one.

    The output's table is the target's where the model ties them, and the source's as well with
    ``--share-all-embeddings``.
    """
    # of its own and on the CPU: the same rows everywhere, and nobody's random state moves
    generator = torch.Generator().manual_seed(seed)
    grown = dict(weights)
    grown[SOURCE] = grow_table(weights[SOURCE], old[0], new[0], generator)
    # one tensor under all names: it stays tied in the file, too
    if args.share_all_embeddings:
        grown[TARGET] = grown[SOURCE]
    else:
        grown[TARGET] = grow_table(weights[TARGET], old[1], new[1], generator)
    if OUTPUT in weights:
        if args.share_all_embeddings or args.share_decoder_input_output_embed:
            grown[OUTPUT] = grown[TARGET]
        else:
            grown[OUTPUT] = grow_table(weights[OUTPUT], old[1], new[1], generator)
    return grown


def grow_table(
    table: torch.Tensor, old: Dictionary, new: Dictionary, generator: torch.Generator
) -> torch.Tensor:
    """Return a table (len(new), C): rows of ``old``'s words from ``table``, others N(0, 1 / C)."""
    dim = table.shape[1]
    # drawn for all rows, so that a word's does not depend on which others are known
    rows = torch.empty(len(new), dim).normal_(0, dim**-0.5, generator=generator).to(table.dtype)
    source, target = [], []
    for number, word in enumerate(old.symbols):
        if word in new.indices:
            source.append(number)
            target.append(new.indices[word])
    rows[target] = table[source]
    return rows
