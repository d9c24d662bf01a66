"""Growing a vocabulary: ``admin-fairseq grow-vocabulary`` gives a checkpoint rows for the words of a larger dictionary.

New text is binarised with a dictionary that is the old one and more words (``fairseq-preprocess --srcdict
--tgtdict``); the embeddings of the trained model then lack rows. Rows move with their word; new ones start as fairseq
starts embeddings. What the model puts out for the old words stays what it was. The optimizer's state goes: the result
is for fine-tuning.
"""

import copy
import logging
import os
import re
from argparse import Namespace

import torch
from fairseq.data import Dictionary, data_utils

from ..deploy.export import check_output, made_up_task
from ..errors import AdminError, raise_all
from . import (
    assemble,
    cfg_of,
    current_names,
    load_checkpoint,
    rebuild,
    save_checkpoint,
    stored_args,
)

logger = logging.getLogger(__name__)

SOURCE, TARGET = "encoder.embed_tokens.weight", "decoder.embed_tokens.weight"
OUTPUT = "decoder.output_projection.weight"
FILLING = re.compile(
    r"madeupword\d+"
)  # fairseq-preprocess fills a dictionary up with these; no text holds them


def grow_vocabulary(path, output, old_data, new_data, seed=1, force=False):
    """Write the checkpoint ``path`` with the vocabulary of ``new_data``: ``output``.

    Args:
        old_data, new_data: data-bins, or a dictionary each that source and target share.
        seed: of the new rows.
        force: replace an ``output`` that is there.

    Raises:
        AdminError: listing all that is wrong: words that the new dictionaries lack, dictionaries that are not the
            checkpoint's, a model that cannot be grown. Nothing is written then.
    """
    check_output(output, [path], force)
    state = load_checkpoint(path)
    args = stored_args(state, path)
    check_can_grow(state, args, path)
    model = rebuild(copy.deepcopy(args), state["model"], made_up_task(state["model"], path), path)
    weights = current_names(model, state["model"])
    languages = languages_of(args, old_data, new_data)
    old, new = (
        dictionaries(old_data, languages, "--old"),
        dictionaries(new_data, languages, "--new"),
    )
    check_dictionaries(weights, args, old, new, path)
    grown = grow(weights, args, old, new, seed)
    args.encoder_embed_path = args.decoder_embed_path = (
        None  # vectors from elsewhere were for the start
    )
    rebuild(
        copy.deepcopy(args),
        grown,
        Namespace(source_dictionary=new[0], target_dictionary=new[1]),
        path,
    )
    save_checkpoint(
        assemble(state.get("cfg") or cfg_of(args), grown, state.get("optimizer_history")), output
    )
    rows = ", ".join(
        f"{side} {len(a)} to {len(b)}" for side, a, b in zip(("source", "target"), old, new)
    )
    logger.info("%s types: written to %s (without the optimizer's state)", rows, output)


def check_can_grow(state, args, path):
    """Refuse models whose tables are no single embeddings of a dictionary.

    Raises:
        AdminError: with every reason.
    """
    rules = [
        (
            "fsdp_metadata" in state,
            "it is one shard of --use-sharded-state; train on to a checkpoint that is whole",
        ),
        (
            getattr(args, "adaptive_softmax_cutoff", None),
            "--adaptive-softmax-cutoff: its classes are ranks of the dictionary",
        ),
        (
            getattr(args, "adaptive_input", False),
            "--adaptive-input: its tables are ranks of the dictionary",
        ),
        (
            getattr(args, "merge_src_tgt_embed", False),
            "--merge-src-tgt-embed: its dictionary is neither of the two",
        ),
        (
            getattr(args, "quant_noise_pq", 0),
            "--quant-noise-pq: its blocks span the tables; grow before it",
        ),
    ]
    raise_all(
        f"{path}: its vocabulary cannot be grown:", [reason for broken, reason in rules if broken]
    )


def languages_of(args, *folders):
    """Return (source, target), as the checkpoint or else the names of the data's files say; None where nothing does."""
    found = (getattr(args, "source_lang", None), getattr(args, "target_lang", None))
    for folder in folders:
        if not all(found) and os.path.isdir(folder):
            found = data_utils.infer_language_pair(folder)
    return found


def dictionaries(data, languages, flag):
    """Return the dictionaries of source and target.

    Raises:
        AdminError: naming ``flag`` and the files that are missing or no dictionaries.
    """
    if os.path.isdir(data):
        if not all(languages):
            raise AdminError(
                f"{flag} {data}: its languages are unknown; name a dictionary of it instead of the folder"
            )
        files = [os.path.join(data, f"dict.{language}.txt") for language in languages]
    else:
        files = [data, data]
    words, problems = [], []
    for file in files:
        try:
            words.append(Dictionary.load(file))
        except FileNotFoundError:
            problems.append(f"{file}: not there")
        except (
            Exception
        ) as error:  # fairseq's ValueError for a line, and plain ones for an encoding
            problems.append(f"{file}: {error}")
    raise_all(f"{flag}: dictionaries that cannot be read:", list(dict.fromkeys(problems)))
    return words


def check_dictionaries(weights, args, old, new, path):
    """Refuse dictionaries that are not the model's, that lack words, or that differ where the model has one table.

    Raises:
        AdminError: with every reason.
    """
    problems = []
    for side, name, a, b in zip(("source", "target"), (SOURCE, TARGET), old, new):
        if len(a) != len(weights[name]):
            rows = len(weights[name])
            problems.append(
                f"--old: {len(a)} {side} types (fairseq's own included), but the model has {rows}"
            )
        lost = [word for word in a.symbols if word not in b.indices and not FILLING.fullmatch(word)]
        if lost:
            shown = " ".join(lost[:10]) + (
                f" ... and {len(lost) - 10} more" if len(lost) > 10 else ""
            )
            problems.append(
                f"--new: {len(lost)} {side} words of the old dictionary are missing: {shown}"
            )
    if args.share_all_embeddings and new[0].symbols != new[1].symbols:
        problems.append(
            "--new: its two dictionaries differ, but the model has one table (--share-all-embeddings)"
        )
    raise_all(
        f"{path}: its vocabulary cannot be grown with these dictionaries:",
        list(dict.fromkeys(problems)),
    )


def grow(weights, args, old, new, seed=1):
    """Return weights with tables for ``new``: (source, target) dictionaries. Tied tables stay one tensor.

    The output's table is the target's where the model ties them, the source's too with --share-all-embeddings.
    """
    generator = torch.Generator().manual_seed(seed)
    grown = dict(weights)
    grown[SOURCE] = grow_table(weights[SOURCE], old[0], new[0], generator)
    one = args.share_all_embeddings
    grown[TARGET] = grown[SOURCE] if one else grow_table(weights[TARGET], old[1], new[1], generator)
    if OUTPUT in weights:
        tied = one or args.share_decoder_input_output_embed
        grown[OUTPUT] = (
            grown[TARGET] if tied else grow_table(weights[OUTPUT], old[1], new[1], generator)
        )
    return grown


def grow_table(table, old, new, generator):
    """Return a table of ``len(new)`` rows: those of ``old``'s words from ``table``, others normal with std C^-0.5."""
    rows = (
        torch.empty(len(new), table.shape[1])
        .normal_(0, table.shape[1] ** -0.5, generator=generator)
        .to(table.dtype)
    )
    known = [
        (new.indices[word], number)
        for number, word in enumerate(old.symbols)
        if word in new.indices
    ]
    target, source = (list(column) for column in zip(*known))
    rows[target] = table[source]
    return rows
