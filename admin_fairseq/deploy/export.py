"""A trained checkpoint -> a stock Transformer's: folded, compared, and only then written.

The result needs no plugin: fairseq's own commands, TorchScript and CTranslate2 (``ctranslate2``) read it.
"""

import argparse
import copy
import logging
import os

import torch
from fairseq.data import Dictionary

from ..checkpoints import (
    assemble,
    cfg_of,
    current_names,
    load_checkpoint,
    rebuild,
    save_checkpoint,
    stored_args,
)
from ..errors import AdminError
from .fold import Folded, fold_state
from .stock import build_stock

logger = logging.getLogger(__name__)
ROUTES = {
    "a": "a, into the LayerNorm (or the linear map) of the embedding",
    "b": "b, its first omega is 1: free",
    "c": "c, into an embedding and a table of positions of its own",
}


def fold_checkpoint(path, output, safe=False, force=False):
    """Fold the checkpoint ``path`` into a stock ``transformer``'s, ``output``.

    Args:
        safe: write plain dictionaries, which stock fairseq loads under torch's ``weights_only``; else the
            flags are a Namespace, as fairseq writes them.
        force: replace an ``output`` that is there.

    Returns:
        Folded.

    Raises:
        AdminError: if the checkpoint cannot be read or folded, if the folded model's outputs are others, or if
            ``output`` cannot be written. Nothing is written then.
    """
    check_output(output, [path], force)
    state, args = load_foldable(path)
    folded = fold_and_compare(state, args, path)
    save_checkpoint(stock_state(state, folded, safe), output)
    logger.info("stock transformer written to %s", output)
    return folded


def check_output(output, inputs, force, kind="file"):
    """Refuse an output that would overwrite something, before the work and not after it.

    Raises:
        AdminError: naming the output.
    """
    if os.path.realpath(output) in {os.path.realpath(path) for path in inputs}:
        raise AdminError(f"{output}: is the input, and would be overwritten")
    parent = os.path.dirname(os.path.abspath(output))
    if not output or (kind == "file" and output.endswith(os.sep)):
        raise AdminError(f"'{output}': a {kind} to write is wanted")
    if not os.path.isdir(parent):
        raise AdminError(f"{output}: its folder does not exist")
    if not os.access(parent, os.W_OK):
        raise AdminError(f"{output}: its folder cannot be written to")
    if os.path.exists(output) and not os.path.isfile(output) and not os.path.isdir(output):
        raise AdminError(f"{output}: is a device or a pipe, and would be replaced by a {kind}")
    if os.path.lexists(output):
        if not force:
            raise AdminError(
                f"{output}: is there already; name another {kind}, or replace it with --force"
            )
        if os.path.isdir(output) != (kind == "folder"):
            raise AdminError(f"{output}: is there and is no {kind}; --force does not replace it")


def load_foldable(path):
    """Return (state, flags) of a checkpoint.

    Raises:
        AdminError: if it cannot be read, or is a part of one.
    """
    state = load_checkpoint(path)
    if "fsdp_metadata" in state:
        raise AdminError(
            f"{path}: one shard of --use-sharded-state; train on to a checkpoint that is whole, without it"
        )
    return state, stored_args(state, path)


def fold_and_compare(state, args, path):
    """Return the :class:`Folded` of a checkpoint, once the folded model is known to put out the same.

    Raises:
        AdminError: if it does not, or the checkpoint cannot be folded.
    """
    model = rebuild(copy.deepcopy(args), state["model"], made_up_task(state["model"], path), path)
    weights = current_names(model, state["model"])
    try:
        folded = fold_state(weights, args)
    except AdminError as error:
        raise AdminError(f"{path}: {error}") from None
    report(folded)
    compare(model, weights, args, folded, path)
    return folded


def made_up_task(weights, path):
    """Return what fairseq reads of a task when it builds the model of these weights: dictionaries of their sizes."""
    dictionaries = [made_up_dictionary(weights, stack, path) for stack in ("encoder", "decoder")]
    return argparse.Namespace(source_dictionary=dictionaries[0], target_dictionary=dictionaries[1])


def made_up_dictionary(weights, stack, path):
    """Return a dictionary of the size of a stack's embedding: words have no say in what is computed.

    Raises:
        AdminError: if there is no embedding.
    """
    table = weights.get(f"{stack}.embed_tokens.weight")
    if table is None or table.dim() != 2:
        raise AdminError(
            f"{path}: it has no {stack}.embed_tokens.weight; it must be a translation model of fairseq-train"
        )
    words = Dictionary()
    for number in range(len(table) - words.nspecial):
        words.add_symbol(str(number))
    return words


def report(folded: Folded):
    """Say which route each stack took, and what it costs."""
    for stack, route in folded.routes.items():
        logger.info("%s: route %s", stack, ROUTES[route])
    logger.info("parameters beside those of omega: %+d", folded.new_parameters)
    if folded.zeros:
        logger.warning(
            "%d omegas of exactly 0 were taken for 1e-8: %s",
            sum(folded.zeros.values()),
            ", ".join(folded.zeros),
        )
    if any(getattr(folded.args, f"{stack}_layerdrop", 0) for stack in folded.routes):
        logger.warning(
            "trained with layerdrop: layers of the folded model scale each other's inputs, and cannot be left out later"
        )


@torch.no_grad()
def compare(model, weights, args, folded, path):
    """Compare logits of the folded model with the model's on a generated batch, in float64; returns the difference.

    Twice: folded without rounding, which has to be exact, and as it will be stored. Storing rounds the weights that
    were changed to their type once more. That moves the logits by about as much as rounding any weights does,
    which is measured beside it: random changes of at most half a unit in the last place. Ten times that is the limit.

    Raises:
        AdminError: if either difference is larger.
    """
    sample = generated_batch(model)
    model.double().eval()
    expected = model(**sample)[0]
    wide = fold_state(
        {
            name: value.double() if value.is_floating_point() else value
            for name, value in weights.items()
        },
        args,
    )
    stock = (
        build_stock(folded.args, model.encoder.dictionary, model.decoder.dictionary).double().eval()
    )
    differences = []
    for stored in (wide.weights, folded.weights):
        stock.load_state_dict(stored)
        differences.append((stock(**sample)[0] - expected).abs().max().item())
    model.load_state_dict(rounded_otherwise(weights))
    noise = (model(**sample)[0] - expected).abs().max().item()
    logger.info(
        "logits differ by %.1e at most, and by %.1e as they are stored (rounding of the weights alone: %.1e), in float64, "
        "on %d made-up sentences", *differences, noise, len(sample["src_tokens"])
    )  # fmt: skip
    size = expected.abs().max().item()
    exact = size * (
        1e-4 if folded.zeros else 1e-9
    )  # 1e-8 for an omega of 0 is a change, if a small one
    if not (differences[0] <= exact and differences[1] <= 10 * noise + exact):
        raise AdminError(
            f"{path}: the folded model puts out something else: logits differ by {differences[0]:.1e}, and by "
            f"{differences[1]:.1e} as they are stored, of which rounding explains {noise:.1e}. Nothing was written. "
            f"{whose(model)}Half-precision weights fold better after admin-fairseq average --inputs CHECKPOINT --output FLOAT32"
        )
    return differences[1]


def whose(model):
    """Return a sentence about layers that are derived from ours, and may compute something else; empty without such."""
    layers = [layer for stack in (model.encoder, model.decoder) for layer in stack.layers]
    parts = [model, model.encoder, model.decoder, *layers]
    foreign = {
        f"{type(part).__module__}.{type(part).__qualname__}" for part in parts if not is_ours(part)
    }
    return (
        f"Is it because of the architecture's own {', '.join(sorted(foreign))}? " if foreign else ""
    )


def is_ours(module):
    return type(module).__module__.split(".")[0] in ("admin_fairseq", "fairseq")


def rounded_otherwise(weights, seed=1):
    """Return weights in float64, each moved by at most half a unit in the last place of its type."""
    generator = torch.Generator().manual_seed(seed)
    moved = {}
    for name, value in weights.items():
        moved[name] = value
        if value.is_floating_point() and not name.endswith("version"):
            noise = torch.rand(value.shape, generator=generator, dtype=torch.float64) - 0.5
            moved[name] = value.double() * (1 + torch.finfo(value.dtype).eps * noise)
    return moved


def generated_batch(model, sentences=8, seed=1):
    """Return the ``net_input`` of random tokens in sentences of different lengths, padded as fairseq pads."""
    generator = torch.Generator().manual_seed(seed)
    tokens = {}
    for stack in ("encoder", "decoder"):
        words = getattr(model, stack).dictionary
        length = min(40, getattr(model, stack).max_positions())
        tokens[stack] = torch.randint(
            words.nspecial, len(words), (sentences, length), generator=generator
        )
        for row in range(sentences):
            cut = row * length // (2 * sentences)  # source padded left, target padded right
            padding = slice(0, cut) if stack == "encoder" else slice(length - cut, length)
            tokens[stack][row, padding] = words.pad()
    tokens["encoder"][:, -1] = tokens["decoder"][:, 0] = model.decoder.dictionary.eos()
    lengths = tokens["encoder"].ne(model.encoder.padding_idx).sum(1)
    return {
        "src_tokens": tokens["encoder"],
        "src_lengths": lengths,
        "prev_output_tokens": tokens["decoder"],
    }


def stock_state(state, folded, safe=False):
    """Return what fairseq stores for the folded model: flags, weights and history, and no optimizer state."""
    cfg = copy.deepcopy(state.get("cfg")) or cfg_of(folded.args)
    cfg["model"] = folded.args
    for section in cfg.values():
        if isinstance(section, dict) and "user_dir" in section:
            section["user_dir"] = None
    extra = {
        key: value
        for key, value in (state.get("extra_state") or {}).items()
        if not key.startswith("ema")
    }
    kept = assemble(
        cfg, folded.weights, state.get("optimizer_history"), state.get("task_state"), extra
    )
    return plain(kept) if safe else kept


def plain(value):
    """Return a value with dictionaries for its Namespaces."""
    if isinstance(value, argparse.Namespace):
        value = vars(value)
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    return [plain(item) for item in value] if isinstance(value, list) else value
