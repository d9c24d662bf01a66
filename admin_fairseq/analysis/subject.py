"""What is analysed: the data, its first batch, and models, from words on a command line.

A word is the path of a checkpoint (ours, or a stock fairseq ``transformer``'s), or a method at its
first step: the architecture that the flags of fairseq-train describe, started that method's way.
"""

import copy
import logging
import os
from collections import Counter, OrderedDict

import torch
from fairseq import options as fairseq_options
from fairseq import tasks, utils

from .. import options, weights
from ..checkpoints import (
    check_architecture,
    construct,
    load_checkpoint,
    restore,
    stored_args,
    whole,
)
from ..errors import AdminError
from ..init_types import is_adaptive
from ..profile import file as profile_file
from ..profile.data import stack_of
from ..profile.fill import apply_profile, check_origin
from ..profile.measure import profile_omega
from ..residual import named_sites

logger = logging.getLogger(__name__)

PRE_LN = {"encoder_normalize_before": True, "decoder_normalize_before": True}
POST_LN = {"encoder_normalize_before": False, "decoder_normalize_before": False}
METHODS = OrderedDict(
    [
        ("post-ln", {"init_type": "default", **POST_LN}),
        ("pre-ln", {"init_type": "default", **PRE_LN}),
        ("admin", {"init_type": "adaptive-auto", **POST_LN}),
        ("analytic", {"init_type": "analytic", **POST_LN}),
        ("deepnet", {"init_type": "deepnet", **POST_LN}),
        ("rezero", {"init_type": "rezero", **POST_LN}),
        ("rezero-postln", {"init_type": "rezero_postln", **POST_LN}),
        ("looklinear", {"init_type": "looklinear", **POST_LN}),
    ]
)


def parse_flags(words):
    """Parse a data-bin and flags of fairseq-train, as fairseq-train does. Without ``--arch``: admin_transformer.

    Raises:
        AdminError: if the architecture has no residual sites that we know.
        SystemExit: (2) for a flag that fairseq-train does not have.
    """
    words = list(words)
    if not words or words[0].startswith("-"):
        raise AdminError("DATA-BIN comes first: admin-fairseq analyze KIND DATA-BIN [flags]")
    if not any(word == "--arch" or word == "-a" or word.startswith("--arch=") for word in words):
        words += ["--arch", "admin_transformer"]
    if not any(
        word.split("=")[0] in ("--max-tokens", "--batch-size", "--max-sentences") for word in words
    ):
        words += ["--max-tokens", "1024"]
    parser = fairseq_options.get_training_parser()
    parser.usage = "admin-fairseq analyze ... [flags of fairseq-train]"
    args = fairseq_options.parse_args_and_arch(parser, words)
    check_architecture(args.arch, "--arch " + args.arch)
    args = options.complete(args)
    args.ddp_backend = "legacy_ddp"  # there is one process: what suits several does not matter
    return args


def load_task(args):
    """Set up the task over the data-bin; its datasets are not loaded yet."""
    data = args.data.split(os.pathsep)[0]
    if not os.path.isdir(data):
        raise AdminError(f"{data}: no such data-bin; make one with fairseq-preprocess")
    try:
        return tasks.setup_task(args)
    except (
        Exception
    ) as error:  # fairseq raises plain Exceptions where languages or dictionaries are missing
        raise AdminError(f"{data}: not a data-bin of the task {args.task}: {error}") from None


def first_batch(task, args, number=1):
    """Return the batch that training would see first (or as its ``number``-th), on the run's device.

    Raises:
        AdminError: if the subset is missing, or has too few sentences that fit ``--max-tokens``.
    """
    subset = args.train_subset
    try:
        task.load_dataset(subset, combine=False, epoch=1)
    except (FileNotFoundError, ValueError) as error:
        hint = (
            "; it is empty: preprocess again with text in it" if "empty file" in str(error) else ""
        )
        raise AdminError(f"{args.data}: {error}{hint}") from None
    dataset = task.dataset(subset)
    where = f"{args.data}, subset {subset}"
    if len(dataset) == 0:
        raise AdminError(f"{where}: it is empty; preprocess again with text in it")
    positions = tuple(
        getattr(args, f"max_{side}_positions", None) or 1024 for side in ("source", "target")
    )
    limits = utils.resolve_max_positions(task.max_positions(), positions, args.max_tokens)
    try:
        iterator = task.get_batch_iterator(
            dataset,
            max_tokens=args.max_tokens,
            max_sentences=args.batch_size,
            max_positions=limits,
            ignore_invalid_inputs=True,
            required_batch_size_multiple=args.required_batch_size_multiple,
            seed=args.seed,
        ).next_epoch_itr(shuffle=True)
    except IndexError:  # fairseq's, where nothing is left to make batches of
        raise AdminError(
            f"{where}: no sentence fits --max-tokens {args.max_tokens} and the models' positions"
        ) from None
    if len(iterator) < number:
        raise AdminError(f"{where}: has no batch {number}: there are {len(iterator)}")
    sample = [next(iterator) for _ in range(number)][-1]
    sample = utils.move_to_cuda(sample) if use_cuda(args) else sample
    return to_float64(sample)


def to_float64(sample):
    if torch.is_tensor(sample):
        return sample.double() if sample.is_floating_point() else sample
    return (
        {key: to_float64(value) for key, value in sample.items()}
        if isinstance(sample, dict)
        else sample
    )


def build_criterion(args, task):
    """Build the criterion that the flags name.

    Raises:
        AdminError: if it cannot be.
    """
    try:
        return task.build_criterion(args)
    except Exception as error:  # fairseq raises plain Exceptions
        raise AdminError(f"--criterion {args.criterion}: {error}") from None


def use_cuda(args):
    return torch.cuda.is_available() and not args.cpu


def build(word, args, task, sample, seed=None, **changed):
    """Build the model that ``word`` names, in float64, in evaluation mode.

    Args:
        word: a checkpoint's path, a name of :data:`METHODS`, or None for the flags as they are.
        args: parsed flags of fairseq-train.
        sample: the batch that an Admin model without a profile is profiled on.
        seed: of the weights (default: ``--seed``).
        changed: flags that are to be other than in ``args``, such as ``encoder_layers``.

    Raises:
        AdminError: if the word is neither, or the checkpoint does not fit the data.
    """
    if word is None or word in METHODS:
        args = whole(copy.deepcopy(args))
        for name, value in {**METHODS.get(word, {}), **changed}.items():
            setattr(args, name, value)
        model = start(args, task, sample, args.seed if seed is None else seed)
    elif os.path.exists(word):
        model = restore(word, task)
    else:
        raise AdminError(
            f"--models {word}: no such checkpoint, and no method ({', '.join(METHODS)})"
        )
    model = model.double().eval()
    return model.cuda() if use_cuda(args) else model


def start(args, task, sample, seed):
    """Build a model at its first step: the weights that fairseq-train would start from."""
    profile = None
    if is_adaptive(args):
        path = options.profile_path(args)
        if args.init_type == "adaptive" and (args.admin_profile or os.path.isfile(path)):
            profile = profile_file.load(path)
            check_origin(profile, args)
            logger.info("omegas are from %s", path)
        else:
            logger.info("omegas are measured on this batch")
    utils.set_torch_seed(seed)
    model = construct(args, task)
    if is_adaptive(args):
        if profile is None:
            model = model.double().to(sample["net_input"]["src_tokens"].device)
            profile = profile_omega(model, sample, count_padding=args.admin_count_padding)
        apply_profile(model, profile)
    return model


def twin(word, method, args, task, sample):
    """Build ``method`` at its first step, in the architecture of a checkpoint, or of the flags."""
    if word is not None and word not in METHODS:
        stored = stored_args(load_checkpoint(word), word)
        for name in ("seed", "cpu", "admin_count_padding"):
            setattr(stored, name, getattr(args, name))
        args = stored
    return build(method, args, task, sample)


def describe(args):
    """Return the name of what the flags describe, such as ``pre-ln``."""
    if args.init_type == "default":
        return (
            "pre-ln"
            if args.encoder_normalize_before or args.decoder_normalize_before
            else "post-ln"
        )
    return "admin" if is_adaptive(args) else str(args.init_type).replace("_", "-")


def count_sites(model):
    """Return ``{stack: number of residual sites}``."""
    return Counter(stack_of(name) for name in named_sites(model))


def non_finite(model):
    """Return the names of weights that hold NaN or infinity."""
    return weights.non_finite(dict(model.named_parameters()))
