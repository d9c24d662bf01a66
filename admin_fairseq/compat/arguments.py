"""Command lines that fairseq answers with a riddle."""

import argparse
import functools
import logging
import sys

from .marks import is_mended, mark

logger = logging.getLogger(__name__)


def explain_arguments():
    """Say what is wrong, in argparse's way (exit code 2).

    - ``--arch transformer --init-type adaptive`` ended in "unrecognized arguments": our flags belong to
      our architectures.
    - fairseq-train without ``--arch`` ended in a RuntimeError without a word.

    And ``--sacrebleu`` of older command lines is accepted, and does nothing: a warning says what does.
    """
    from fairseq import options

    original = options.parse_args_and_arch
    if is_mended(original, "arguments"):
        return

    @functools.wraps(original)
    def parse_args_and_arch(parser, input_args=None, *args, **kwargs):
        as_usual = parser.error

        def error(message):
            words = sys.argv[1:] if input_args is None else input_args
            as_usual(message + _about_our_flags(message, words))

        parser.error = error
        try:
            parsed = original(parser, input_args, *args, **kwargs)
            _warn_of_sacrebleu(parsed[0] if isinstance(parsed, tuple) else parsed)
            return parsed
        except RuntimeError as problem:
            if problem.args:
                raise
            as_usual("the following arguments are required: --arch")
        finally:
            parser.error = as_usual

    options.parse_args_and_arch = mark(parse_args_and_arch, "arguments")


def _warn_of_sacrebleu(args):
    if getattr(args, "sacrebleu", False) and getattr(args, "scoring", None) == "bleu":
        logger.warning(
            "--sacrebleu does nothing in today's fairseq, and the score is BLEU of tokens: use --scoring sacrebleu"
        )


def _about_our_flags(message, words):
    """Return what to add to an error message about arguments that a parser does not know."""
    from ..options import ADMIN_FLAGS  # importing the package applies mends first

    if not message.startswith("unrecognized arguments"):
        return ""
    known = {"--" + name.replace("_", "-") for name in ADMIN_FLAGS}
    found = list(
        dict.fromkeys(word.split("=")[0] for word in message.split() if word.split("=")[0] in known)
    )
    if not found:
        return ""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--arch", "-a")
    return f"\n{', '.join(found)}: {_way_out(parser.parse_known_args(words)[0].arch)}"


def _way_out(arch):
    from fairseq.models import ARCH_MODEL_REGISTRY

    if arch is None:
        return "for fairseq-train --arch admin_transformer*; a checkpoint has its own: leave them out here"
    ours = sorted(name for name in ARCH_MODEL_REGISTRY if name.startswith("admin_transformer"))
    counterpart = f"admin_{arch}"
    if counterpart in ours:
        return f"these flags go with --arch admin_transformer*: use --arch {counterpart} in place of --arch {arch}"
    return f"these flags go with --arch admin_transformer*, not with --arch {arch}; choose from {', '.join(ours)}"
