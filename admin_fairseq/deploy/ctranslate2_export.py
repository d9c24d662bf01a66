"""A trained checkpoint -> a folder for ``ctranslate2.Translator``, with the vocabulary.

CTranslate2 (OpenNMT) has no residual scale, and converts the stock Transformer that folding makes.
Its own converter does that; what it puts out is compared with the folded model before anything is
kept.
"""

import contextlib
import logging
import os
import re
import tempfile
from argparse import Namespace
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Optional

from fairseq.data import Dictionary, data_utils

from ..checkpoints import check_output, load_dictionary, save_checkpoint
from ..errors import AdminError, raise_all
from ..weights import Weights
from .ctranslate2_compare import CLOSE, compare
from .export import fold_and_compare, load_foldable, stock_state
from .int8_noise import warn_of_cut_sums, warn_of_noise

logger = logging.getLogger(__name__)
# what CTranslate2 writes
_MODEL_FILES = re.compile(r"model\.bin|config\.json|\w*vocabulary\.(json|txt)")


@dataclass
class _Vocabulary:
    """A data-bin, and what of it belongs to a model: of source and target each."""

    data: str
    languages: list[str]
    dictionaries: list[Dictionary]


def export_ctranslate2(
    path: str,
    folder: str,
    quantization: Optional[str] = None,
    data: Optional[str] = None,
    languages: Sequence[Optional[str]] = (None, None),
    force: bool = False,
) -> None:
    """Fold the checkpoint ``path`` and convert it into ``folder``.

    Args:
        path: of the checkpoint to read.
        folder: the folder to write.
        quantization: one of :data:`QUANTIZATIONS`; None is float32.
        data: the data-bin that has the dictionaries; None is the one that the checkpoint names.
        languages: source and target; None is what the checkpoint names.
        force: replace a ``folder`` that exists.

    Raises:
        AdminError: if any step fails, or CTranslate2 puts out something else. Nothing is left
            behind then.
    """
    try:
        import ctranslate2  # noqa: F401  # asked for before the work; it is no dependency of ours
    except ImportError as error:
        raise AdminError(
            f"--format ctranslate2: {error}; install it with: pip install ctranslate2"
        ) from None
    check_output(folder, [path], force, kind="folder")
    _check_replaceable(folder)
    state, args = load_foldable(path)
    vocabulary = _find_vocabulary(args, state["model"], data, languages, path)
    folded = fold_and_compare(state, args, path)
    _check_convertible(folded.args, path)
    for name, value in folded.weights.items():
        folded.weights[name] = value.float()  # numpy has no bfloat16
    if quantization and quantization.startswith("int8"):
        warn_of_noise(folded)
        warn_of_cut_sums()
    with _folder_beside(folder) as work:
        stock = os.path.join(work, "stock.pt")
        save_checkpoint(stock_state(state, folded), stock)
        converted = os.path.join(work, "float32")
        _convert(stock, vocabulary, converted, None)
        # float32 first: there a difference is a wrong conversion, and not rounding
        compare(converted, folded, vocabulary.dictionaries, CLOSE)
        if quantization and quantization != "float32":
            converted = os.path.join(work, "quantized")
            _convert(stock, vocabulary, converted, quantization)
            compare(converted, folded, vocabulary.dictionaries)
        put_in_place(converted, folder, os.path.join(work, "replaced"))
    logger.info("CTranslate2 model (%s) written to %s", quantization or "float32", folder)


def _check_replaceable(folder: str) -> None:
    """Refuse to replace a folder that holds more than a CTranslate2 model.

    Raises:
        AdminError: naming a file that would be lost.
    """
    if not os.path.isdir(folder):
        return
    others = [name for name in os.listdir(folder) if not _MODEL_FILES.fullmatch(name)]
    if others:
        raise AdminError(
            f"{folder}: holds {min(others)}; --force replaces nothing but a CTranslate2 model"
        )


def _find_vocabulary(
    args: Namespace,
    weights: Weights,
    data: Optional[str],
    languages: Sequence[Optional[str]],
    path: str,
) -> _Vocabulary:
    """Return the dictionaries of a model.

    If ``data`` is None they are read from the data-bin that the checkpoint names, and nothing else
    of it.

    Raises:
        AdminError: if the data-bin or a dictionary is missing or not the model's.
    """
    where = "--data"
    if data is None:
        # of several data-bins fairseq reads the dictionaries of the first
        data = str(getattr(args, "data", None) or "").split(os.pathsep)[0]
        where = "the checkpoint's data-bin"
    if not os.path.isdir(data):
        raise AdminError(
            f"{where} {data}: no such folder; name the data-bin that the model was trained on with "
            "--data"
        )
    source, target = languages
    source = source or getattr(args, "source_lang", None)
    target = target or getattr(args, "target_lang", None)
    if not source or not target:
        inferred = data_utils.infer_language_pair(data)
        source, target = source or inferred[0], target or inferred[1]
    if not source or not target:
        raise AdminError(
            f"{where} {data}: neither it nor the checkpoint {path} says the languages; name "
            "--source-lang and --target-lang"
        )
    found = [source, target]
    # they come from a file, and become part of a file's name
    if any(os.path.basename(str(language)) != language for language in found):
        raise AdminError(
            f"{path}: its languages {found} are paths, not names; give --source-lang and "
            "--target-lang"
        )
    return _Vocabulary(data, found, _dictionaries(data, found, weights))


def _dictionaries(data: str, languages: list[str], weights: Weights) -> list[Dictionary]:
    words, problems = [], []
    for language, stack in zip(languages, ("encoder", "decoder")):
        file = os.path.join(data, f"dict.{language}.txt")
        try:
            dictionary = load_dictionary(file)
        except AdminError as error:
            problems.append(str(error))
            continue
        size = len(weights[f"{stack}.embed_tokens.weight"])
        if len(dictionary) != size:
            problems.append(
                f"{file}: has {len(dictionary)} types (fairseq's own included), but the {stack}'s "
                f"embedding has {size}"
            )
        words.append(dictionary)
    raise_all("--data: name the data-bin that the model was trained on:", problems)
    return words


def _check_convertible(args: Namespace, path: str) -> None:
    """Refuse what CTranslate2's converter refuses, or leaves out without a word.

    Raises:
        AdminError: with every reason.
    """
    from ctranslate2.converters import fairseq as converter

    activations = converter._SUPPORTED_ACTIVATIONS
    problems = []
    if args.encoder_layers < 1 or args.decoder_layers < 1:
        problems.append("--encoder-layers or --decoder-layers is 0")
    if args.encoder_attention_heads != args.decoder_attention_heads:
        problems.append("--encoder-attention-heads and --decoder-attention-heads differ")
    if args.encoder_normalize_before != args.decoder_normalize_before:
        problems.append("only one stack has --*-normalize-before")
    if args.adaptive_softmax_cutoff:
        problems.append("--adaptive-softmax-cutoff: it has no such output layer")
    if args.no_token_positional_embeddings:
        problems.append("--no-token-positional-embeddings: it always adds positions")
    if args.no_cross_attention:
        problems.append("--no-cross-attention: its decoders look at the source")
    if args.quant_noise_pq:
        problems.append("--quant-noise-pq: it has no linear map after the embedding")
    if args.decoder_output_dim != args.decoder_embed_dim:
        problems.append("--decoder-output-dim is not --decoder-embed-dim")
    if args.activation_fn not in activations:
        problems.append(f"--activation-fn {args.activation_fn}: use {', '.join(activations)}")
    raise_all(f"{path}: CTranslate2 cannot run this model:", problems)


@contextlib.contextmanager
def _folder_beside(folder: str) -> Iterator[str]:
    """Make a temporary folder on the disk of ``folder``, for renaming what is made in it.

    Raises:
        AdminError: naming ``folder``, if it cannot be made, or the block ends in an error.
    """
    parent = os.path.dirname(os.path.abspath(folder))
    try:
        with tempfile.TemporaryDirectory(dir=parent, prefix=".ctranslate2.") as work:
            yield work
    except AdminError:
        raise
    except (OSError, RuntimeError, ValueError) as error:  # what CTranslate2 and torch raise
        raise AdminError(f"{folder}: cannot be written: {error}") from None


def _convert(stock: str, vocabulary: _Vocabulary, folder: str, quantization: Optional[str]) -> None:
    from ctranslate2.converters import FairseqConverter

    source, target = vocabulary.languages
    converter = FairseqConverter(stock, vocabulary.data, source_lang=source, target_lang=target)
    converter.convert(folder, quantization=quantization)


def put_in_place(converted: str, folder: str, aside: str) -> None:
    """Rename a new folder to where it belongs; the one it replaces comes back if that fails.

    Args:
        converted: the new folder.
        folder: where it belongs.
        aside: where the one that it replaces goes meanwhile.
    """
    # two steps: os.rename does not replace a folder with something in it
    if os.path.isdir(folder):
        os.rename(folder, aside)
    try:
        os.rename(converted, folder)
    # also when interrupted: what was there is put back
    except BaseException:
        if os.path.isdir(aside):
            os.rename(aside, folder)
        raise
