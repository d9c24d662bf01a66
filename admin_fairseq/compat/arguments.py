"""Command lines that fairseq answers with a riddle."""

import argparse
import functools
import logging
import sys
from collections.abc import Sequence
from typing import Any, NoReturn, Optional

from .marks import is_mended, mark

logger = logging.getLogger(__name__)


def explain_arguments() -> None:
    """Say what is wrong, in argparse's way (exit code 2).

    - ``--arch transformer --init-type adaptive`` ended in "unrecognized arguments": our flags
      belong to our architectures.
    - fairseq-train without ``--arch`` ended in a RuntimeError without a word.

    And ``--sacrebleu`` of older command lines is accepted, and does nothing: a warning says what
    does.
    """
    from fairseq import options

    original = options.parse_args_and_arch
    if is_mended(original, "arguments"):
        return

    @functools.wraps(original)
    def parse_args_and_arch(
        parser: argparse.ArgumentParser,
        input_args: Optional[Sequence[str]] = None,
        *args: Any,
        **kwargs: Any,
    ) -> Any:
        as_usual = parser.error

        def error(message: str) -> NoReturn:
            words = sys.argv[1:] if input_args is None else input_args
            as_usual(message + _about_our_flags(message, words))

        parser.error = error  # type: ignore[method-assign]  # argparse has no other place to extend it
        try:
            parsed = original(parser, input_args, *args, **kwargs)
            _warn_of_sacrebleu(parsed[0] if isinstance(parsed, tuple) else parsed)
            return parsed
        except RuntimeError as problem:
            if problem.args:
                raise
            as_usual("the following arguments are required: --arch")
        finally:
            parser.error = as_usual  # type: ignore[method-assign]

    options.parse_args_and_arch = mark(parse_args_and_arch, "arguments")


def _warn_of_sacrebleu(args: argparse.Namespace) -> None:
    if getattr(args, "sacrebleu", False) and getattr(args, "scoring", None) == "bleu":
        logger.warning(
            "--sacrebleu does nothing in today's fairseq, and the score is BLEU of tokens: use "
            "--scoring sacrebleu"
        )


def _about_our_flags(message: str, words: Sequence[str]) -> str:
    """Return what to add to an error message about arguments that a parser does not know."""
    from ..options import ADMIN_FLAGS  # here: it imports fairseq, after the workarounds are applied

    if not message.startswith("unrecognized arguments"):
        return ""
    known = {"--" + name.replace("_", "-") for name in ADMIN_FLAGS}
    flags = [word.split("=")[0] for word in message.split()]
    found = dict.fromkeys(flag for flag in flags if flag in known)  # each once, in order
    if not found:
        return ""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--arch", "-a")
    arch = parser.parse_known_args(words)[0].arch
    return f"\n{', '.join(found)}: {_way_out(arch)}"


def _way_out(arch: Optional[str]) -> str:
    from fairseq.models import ARCH_MODEL_REGISTRY

    if arch is None:
        return (
            "for fairseq-train --arch admin_transformer*; a checkpoint has its own: leave them out "
            "here"
        )
    ours = sorted(name for name in ARCH_MODEL_REGISTRY if name.startswith("admin_transformer"))
    counterpart = f"admin_{arch}"
    these = "these flags go with --arch admin_transformer*"
    if counterpart in ours:
        return f"{these}: use --arch {counterpart} in place of --arch {arch}"
    return f"{these}, not with --arch {arch}; choose from {', '.join(ours)}"
