"""A trained checkpoint -> a folder for ``ctranslate2.Translator``: fold, convert, compare, with the vocabulary.

CTranslate2 (OpenNMT) has no residual scale, and converts the stock Transformer that folding makes. Its own
converter does that; what it puts out is compared with the folded model before anything is kept.
"""

import logging
import os
import re
import tempfile

import torch
from fairseq.data import Dictionary, data_utils

from ..checkpoints import save_checkpoint
from ..errors import AdminError, raise_all
from .export import check_output, fold_and_compare, load_foldable, stock_state
from .fold import part, stack_sites
from .stock import build_stock

logger = logging.getLogger(__name__)
MODEL_FILES = re.compile(
    r"model\.bin|config\.json|\w*vocabulary\.(json|txt)"
)  # what CTranslate2 writes
NOISY = 4.0  # growth of int8's rounding noise from which on there is a warning: two of its bits
CLOSE = 1e-3  # nats per token that float32 may be off: another order of additions


def export_ctranslate2(
    path, folder, quantization=None, data=None, languages=(None, None), force=False
):
    """Fold the checkpoint ``path`` and convert it into ``folder``.

    Args:
        quantization: one of :data:`QUANTIZATIONS`; None is float32.
        data: the data-bin that has the dictionaries; None is the one that the checkpoint names.
        languages: source and target; None is what the checkpoint names.
        force: replace a ``folder`` that is there.

    Raises:
        AdminError: if any step fails, or CTranslate2 puts out something else. Nothing is left behind then.
    """
    try:
        import ctranslate2  # noqa: F401
    except ImportError as error:
        raise AdminError(
            f"--format ctranslate2: {error}; install it with: pip install ctranslate2"
        ) from None
    check_output(folder, [path], force, kind="folder")
    check_replaceable(folder)
    state, args = load_foldable(path)
    data, languages, words = dictionaries(args, state["model"], data, languages, path)
    folded = fold_and_compare(state, args, path)
    check_convertible(folded.args, path)
    folded.weights = {
        name: value.float() for name, value in folded.weights.items()
    }  # numpy has no bfloat16
    if quantization and quantization.startswith("int8"):
        warn_of_noise(folded)
    try:
        with tempfile.TemporaryDirectory(
            dir=os.path.dirname(os.path.abspath(folder)), prefix=".ctranslate2."
        ) as work:
            stock, converted = os.path.join(work, "stock.pt"), os.path.join(work, "float32")
            save_checkpoint(stock_state(state, folded), stock)
            convert(stock, data, languages, converted, None)
            compare(converted, folded, words, CLOSE)
            if quantization and quantization != "float32":
                converted = os.path.join(work, "quantized")
                convert(stock, data, languages, converted, quantization)
                compare(converted, folded, words)
            put_in_place(converted, folder, os.path.join(work, "replaced"))
    except AdminError:
        raise
    except (OSError, RuntimeError, ValueError) as error:
        raise AdminError(f"{folder}: cannot be written: {error}") from None
    logger.info("CTranslate2 model (%s) written to %s", quantization or "float32", folder)


def check_replaceable(folder):
    """Refuse to replace a folder that holds more than a CTranslate2 model.

    Raises:
        AdminError: naming a file that would be lost.
    """
    others = (
        [name for name in os.listdir(folder) if not MODEL_FILES.fullmatch(name)]
        if os.path.isdir(folder)
        else []
    )
    if others:
        raise AdminError(
            f"{folder}: holds {min(others)}; --force replaces nothing but a CTranslate2 model"
        )


def put_in_place(converted, folder, aside):
    """Rename a new folder to where it belongs; the one that is there comes back if that fails."""
    if os.path.isdir(folder):
        os.rename(folder, aside)
    try:
        os.rename(converted, folder)
    except BaseException:
        if os.path.isdir(aside):
            os.rename(aside, folder)
        raise


def check_convertible(args, path):
    """Refuse what CTranslate2's converter refuses, or leaves out without a word.

    Raises:
        AdminError: with every reason.
    """
    from ctranslate2.converters import fairseq as converter

    rules = [
        (
            args.encoder_layers < 1 or args.decoder_layers < 1,
            "--encoder-layers or --decoder-layers is 0",
        ),
        (
            args.encoder_attention_heads != args.decoder_attention_heads,
            "--encoder-attention-heads and --decoder-attention-heads differ",
        ),
        (
            args.encoder_normalize_before != args.decoder_normalize_before,
            "only one stack has --*-normalize-before",
        ),
        (args.adaptive_softmax_cutoff, "--adaptive-softmax-cutoff: it has no such output layer"),
        (
            args.no_token_positional_embeddings,
            "--no-token-positional-embeddings: it always adds positions",
        ),
        (args.no_cross_attention, "--no-cross-attention: its decoders look at the source"),
        (args.quant_noise_pq, "--quant-noise-pq: it has no linear map after the embedding"),
        (
            args.decoder_output_dim != args.decoder_embed_dim,
            "--decoder-output-dim is not --decoder-embed-dim",
        ),
        (
            args.activation_fn not in converter._SUPPORTED_ACTIVATIONS,
            f"--activation-fn {args.activation_fn}: use {', '.join(converter._SUPPORTED_ACTIVATIONS)}",
        ),
    ]
    raise_all(
        f"{path}: CTranslate2 cannot run this model:",
        [reason for broken, reason in rules if broken],
    )


def dictionaries(args, weights, data, languages, path):
    """Return (data-bin, languages, dictionaries), each of the last two for source and target.

    The data-bin that a checkpoint names is looked at if ``data`` is None: its dictionaries are read, and nothing else.

    Raises:
        AdminError: if the data-bin or a dictionary is missing or not the model's.
    """
    where = "--data"
    if data is None:
        data, where = (
            str(getattr(args, "data", None) or "").split(os.pathsep)[0],
            "the checkpoint's data-bin",
        )
    if not os.path.isdir(data):
        raise AdminError(
            f"{where} {data}: no such folder; name the data-bin that the model was trained on with --data"
        )
    found = [
        given or getattr(args, f"{side}_lang", None)
        for given, side in zip(languages, ("source", "target"))
    ]
    if not all(found):
        found = [
            known or inferred
            for known, inferred in zip(found, data_utils.infer_language_pair(data))
        ]
    if not all(found):
        raise AdminError(
            f"{where} {data}: neither it nor the checkpoint {path} says the languages; name --source-lang and --target-lang"
        )
    if any(os.path.basename(str(language)) != language for language in found):
        raise AdminError(
            f"{path}: its languages {found} are no names; give --source-lang and --target-lang"
        )
    words, problems = [], []
    for language, stack in zip(found, ("encoder", "decoder")):
        file = os.path.join(data, f"dict.{language}.txt")
        if not os.path.isfile(file):
            problems.append(f"{file}: not there")
            continue
        try:
            words.append(Dictionary.load(file))
        except (
            Exception
        ) as error:  # fairseq's ValueError for a line, and plain ones for an encoding
            problems.append(f"{file}: {error}")
            continue
        size = len(weights[f"{stack}.embed_tokens.weight"])
        if len(words[-1]) != size:
            problems.append(
                f"{file}: has {len(words[-1])} types (fairseq's own included), and the {stack}'s embedding has {size}"
            )
    raise_all("--data: name the data-bin that the model was trained on:", problems)
    return data, found, words


def convert(stock, data, languages, folder, quantization):
    """Run CTranslate2's converter on a stock checkpoint."""
    from ctranslate2.converters import FairseqConverter

    FairseqConverter(stock, data, source_lang=languages[0], target_lang=languages[1]).convert(
        folder, quantization=quantization
    )


@torch.no_grad()
def compare(folder, folded, words, limit=None, sentences=8, length=12):
    """Compare log-probabilities of made-up sentences, token by token, with the folded model's.

    Raises:
        AdminError: if one differs by more than ``limit`` (nats).
    """
    import ctranslate2

    generator = torch.Generator().manual_seed(1)
    length = min(length, folded.args.max_source_positions - 1, folded.args.max_target_positions - 1)
    source, target = (
        torch.randint(
            vocabulary.nspecial, len(vocabulary), (sentences, length), generator=generator
        )
        for vocabulary in words
    )
    eos = torch.full((sentences, 1), words[1].eos())
    model = build_stock(folded.args, *words)
    model.load_state_dict(folded.weights)
    logits = model.eval()(
        torch.cat([source, eos], 1),
        torch.full((sentences,), length + 1),
        torch.cat([eos, target], 1),
    )[0]
    expected = logits.log_softmax(-1).gather(-1, torch.cat([target, eos], 1)[..., None])[..., 0]
    translator = ctranslate2.Translator(folder, device="cpu")
    texts = [
        [[words[side][token] for token in row] for row in tokens]
        for side, tokens in enumerate((source, target))
    ]
    found = torch.tensor([score.log_probs for score in translator.score_batch(*texts)])
    difference = (found - expected).abs()
    logger.info(
        "CTranslate2 (%s): log-probabilities of %d made-up tokens differ by %.1e on average, %.1e at most",
        translator.compute_type, difference.numel(), difference.mean(), difference.max(),
    )  # fmt: skip
    if limit is not None and not difference.max() <= limit:
        raise AdminError(
            f"CTranslate2 computes something else than the folded model: a log-probability differs by "
            f"{difference.max():.1e}. Nothing was written. Please report it with the training's flags"
        )


def noise_growth(folded):
    """Return ``{weight: by how much folding makes int8's rounding noise larger}``.

    int8 stores each row of a matrix with one step, its largest element / 127. A column that was divided by a
    small omega makes that step larger for all columns of its row; the input of the others is not smaller. For
    inputs of equal size, the noise of a row grows by  max_j |W_ij / s_j| * rms(s) / max_j |W_ij|; this is its
    mean over rows. 1 where all omegas of a site are equal.
    """
    growth = {}
    for stack, scales in folded.scales.items():
        for site, scale in zip(stack_sites(folded.args, stack), scales):
            for reader in part(site, 1):
                weight = folded.weights[f"{reader}.weight"].double()
                rows = (
                    weight.abs().amax(1)
                    * scale.pow(2).mean().sqrt()
                    / (weight * scale).abs().amax(1).clamp_min(1e-30)
                )
                growth[f"{reader}.weight"] = rows.mean().item()
    return growth


def warn_of_noise(folded):
    """Say where near-zero omegas cost int8 much of its precision."""
    noisy = {name: growth for name, growth in noise_growth(folded).items() if growth > NOISY}
    if noisy:
        worst = max(noisy, key=noisy.get)
        logger.warning(
            "omegas near 0 make the rounding noise of int8 larger in %d matrices, up to %.0f times (%s): compare BLEU with "
            "float32's, or use --quantization float16",
            len(noisy), noisy[worst], worst,
        )  # fmt: skip
