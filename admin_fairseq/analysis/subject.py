"""What is analysed: the data, a batch of them, and models, from words on a command line.

A word is the path of a checkpoint (ours, or a stock fairseq ``transformer``'s), or a method at its
first step: the architecture that the flags of fairseq-train describe, started that method's way.
"""

from __future__ import annotations

import copy
import logging
import os
from argparse import Namespace
from collections import Counter
from collections.abc import Sequence
from typing import Any

import torch
from fairseq import options as fairseq_options
from fairseq import tasks, utils
from torch import nn

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
from ..init_types import Method, find_method, measures, measuring_flags, method_of
from ..profile import file as profile_file
from ..profile.data import Profile
from ..profile.fill import apply_profile
from ..profile.from_file import check_origin
from ..profile.measure import profile_omega
from ..profile.shape import with_shape
from ..sites import named_sites, stack_of
from .words import is_method, method_words

logger = logging.getLogger(__name__)

_BATCH_FLAGS = ("--max-tokens", "--batch-size", "--max-sentences")
# of the flags of a checkpoint's training, these are the analysis's own
_OF_THIS_RUN = ("seed", "cpu", "admin_count_padding", "admin_profile")


def parse_flags(words: Sequence[str]) -> Namespace:
    """Parse a data-bin and flags of fairseq-train, as fairseq-train does.

    Without ``--arch`` it is admin_transformer.

    Raises:
        AdminError: if the architecture has no residual sites that we know.
        SystemExit: (2) for a flag that fairseq-train does not have.
    """
    words = list(words)
    if not words or words[0].startswith("-"):
        raise AdminError("DATA-BIN comes first: admin-fairseq analyze KIND DATA-BIN [flags]")
    given = {word.split("=")[0] for word in words}
    if not given.intersection(("--arch", "-a")):
        words += ["--arch", "admin_transformer"]
    if not given.intersection(_BATCH_FLAGS):
        words += ["--max-tokens", "1024"]
    parser = fairseq_options.get_training_parser()
    parser.usage = "admin-fairseq analyze ... [flags of fairseq-train]"
    args = fairseq_options.parse_args_and_arch(parser, words)
    check_architecture(args.arch, "--arch " + args.arch)
    args = options.complete(args)
    args.ddp_backend = "legacy_ddp"  # there is one process: what suits several does not matter
    return args


def load_task(args: Namespace) -> Any:
    """Set up the task over the data-bin; its datasets are not loaded yet.

    Raises:
        AdminError: if there is no such data-bin, or it does not suit the task.
    """
    data = args.data.split(os.pathsep)[0]
    if not os.path.isdir(data):
        raise AdminError(f"{data}: no such data-bin; make one with fairseq-preprocess")
    try:
        return tasks.setup_task(args)
    except Exception as error:  # fairseq's plain ones: languages or dictionaries are missing
        raise AdminError(f"{data}: not a data-bin of the task {args.task}: {error}") from None


def load_batch(task: Any, args: Namespace, number: int = 1) -> dict[str, Any]:
    """Return the batch that training would see as its ``number``-th, on the run's device.

    Its floating-point tensors are in float64.

    Raises:
        AdminError: if the subset is missing, or has too few sentences that fit ``--max-tokens``.
    """
    dataset = _load_dataset(task, args)
    where = f"{args.data}, subset {args.train_subset}"
    if len(dataset) == 0:
        raise AdminError(f"{where}: it is empty; preprocess again with text in it")
    longest = []
    for side in ("source", "target"):
        longest.append(getattr(args, f"max_{side}_positions", None) or 1024)
    # what fairseq-train filters by: else the order of batches is another
    limits = utils.resolve_max_positions(task.max_positions(), tuple(longest), args.max_tokens)
    try:
        batches = task.get_batch_iterator(
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
    if len(batches) < number:
        raise AdminError(f"{where}: has no batch {number}: there are {len(batches)}")
    for _ in range(number):
        sample = next(batches)
    if _uses_cuda(args):
        sample = utils.move_to_cuda(sample)
    return _to_float64(sample)


def _load_dataset(task: Any, args: Namespace) -> Any:
    subset = args.train_subset
    try:
        task.load_dataset(subset, combine=False, epoch=1)
    except (FileNotFoundError, ValueError) as error:
        hint = ""
        if "empty file" in str(error):
            hint = "; it is empty: preprocess again with text in it"
        raise AdminError(f"{args.data}: {error}{hint}") from None
    return task.dataset(subset)


def _to_float64(sample: Any) -> Any:
    if torch.is_tensor(sample):
        return sample.double() if sample.is_floating_point() else sample
    if isinstance(sample, dict):
        return {key: _to_float64(value) for key, value in sample.items()}
    return sample


def build_criterion(args: Namespace, task: Any) -> Any:
    """Build the criterion that the flags name.

    Raises:
        AdminError: if it cannot be.
    """
    try:
        return task.build_criterion(args)
    except Exception as error:  # fairseq raises plain Exceptions
        raise AdminError(f"--criterion {args.criterion}: {error}") from None


def _uses_cuda(args: Namespace) -> bool:
    return torch.cuda.is_available() and not args.cpu


def build_model(
    word: str | None,
    args: Namespace,
    task: Any,
    sample: dict[str, Any],
    seed: int | None = None,
    **changed_flags: Any,
) -> Any:
    """Build the model that ``word`` names, in float64, in evaluation mode.

    Args:
        word: a method's name or alias, a checkpoint's path, or None for the flags as they are.
        args: parsed flags of fairseq-train.
        task: fairseq's, over the data.
        sample: the batch that an Admin model without a profile is profiled on.
        seed: of the weights (default: ``--seed``).
        changed_flags: that are to be other than in ``args``, such as ``encoder_layers``.

    Raises:
        AdminError: if the word is neither, or the checkpoint does not fit the data.
    """
    if word is None or is_method(word):
        args = whole(copy.deepcopy(args))
        if word is not None:
            vars(args).update(_flags_of(find_method(word), args, changed_flags))
        vars(args).update(changed_flags)
        model = _build_at_first_step(args, task, sample, args.seed if seed is None else seed)
    elif os.path.exists(word):
        model = restore(word, task)
    else:
        methods = ", ".join(method_words())
        raise AdminError(f"--models {word}: no such checkpoint, and no method ({methods})")
    # widened afterwards: weights are drawn in float32, as a training draws them
    return to_look_at(model, args)


def _flags_of(method: Method, args: Namespace, changed_flags: dict[str, Any]) -> dict[str, Any]:
    """Return a method's flags: omegas are those of the profile that is named, or are measured.

    They are measured as well where the profile is what the command line is about to measure, or is
    of another architecture; and whatever profile lies in the ``--save-dir``.
    """
    same = all(getattr(args, name, None) == value for name, value in changed_flags.items())
    if args.admin_profile and same and not measures(args):
        return dict(method.flags)
    return measuring_flags(method)


def to_look_at(model: Any, args: Namespace) -> Any:
    """Put a model into float64 and evaluation mode, on the run's device."""
    model = model.double().eval()
    return model.cuda() if _uses_cuda(args) else model


def _build_at_first_step(args: Namespace, task: Any, sample: dict[str, Any], seed: int) -> Any:
    """Build a model with the weights, and the omegas, that fairseq-train would start from."""
    if not method_of(args).needs_profile:
        utils.set_torch_seed(seed)
        return construct(args, task)
    profile = _profile_of_training(args)
    utils.set_torch_seed(seed)
    model = construct(args, task)
    if profile is None:
        model = model.double().to(sample["net_input"]["src_tokens"].device)
        profile = profile_omega(model, sample, count_padding=args.admin_count_padding)
    apply_profile(model, with_shape(profile, options.omega_shape(args)))
    return model


def _profile_of_training(args: Namespace) -> Profile | None:
    """Return the profile that training would read; None where it has to be measured."""
    path = options.profile_path(args)
    # a profile that is named must be there; the default one need not
    if measures(args) or not (args.admin_profile or os.path.isfile(path)):
        logger.info("omegas are measured on this batch")
        return None
    profile = profile_file.load(path)
    check_origin(profile, args)
    logger.info("omegas are from %s", path)
    return profile


def build_twin(
    word: str | None, method: str, args: Namespace, task: Any, sample: dict[str, Any]
) -> Any:
    """Build ``method`` at its first step, in the architecture of a checkpoint, or of the flags.

    Args:
        word: the checkpoint's path; another word, or None, stands for the flags.
        method: a method's name or alias.
        args: parsed flags of fairseq-train.
        task: fairseq's, over the data.
        sample: as in :func:`build_model`.
    """
    if word is not None and not is_method(word):
        stored = stored_args(load_checkpoint(word), word)
        for name in _OF_THIS_RUN:
            setattr(stored, name, getattr(args, name))
        args = stored
    return build_model(method, args, task, sample)


def count_sites(model: nn.Module) -> Counter[str]:
    """Return ``{stack: number of residual sites}``."""
    return Counter(stack_of(name) for name in named_sites(model))


def non_finite_weights(model: nn.Module) -> list[str]:
    """Return the names of weights that hold NaN or infinity."""
    return weights.non_finite(dict(model.named_parameters()))
