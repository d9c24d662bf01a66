"""Which program this process runs: our own command, one of fairseq's, or somebody else's."""

import sys
from pathlib import Path

FAIRSEQ_COMMANDS = (
    "fairseq-eval-lm",
    "fairseq-generate",
    "fairseq-hydra-train",
    "fairseq-interactive",
    "fairseq-preprocess",
    "fairseq-score",
    "fairseq-train",
    "fairseq-validate",
)

# of these, what reads models and trains none
_EVALUATION = ("eval-lm", "generate", "interactive", "validate")


def is_own_command() -> bool:
    """Whether this process is ``admin-fairseq``, or ``python -m admin_fairseq``.

    So are the processes that it forks or spawns: they have its arguments. A script of somebody's
    that is called ``admin-fairseq.py`` is not.
    """
    program = _program()
    if program.name == "__main__.py":
        return program.resolve() == Path(__file__).resolve().with_name("__main__.py")
    if program.name == "-m":
        return _module_being_started() == __package__
    return program.name == "admin-fairseq"


def is_fairseq_command() -> bool:
    """Whether this process is one of fairseq's commands, however it was started.

    That is as a console script, by ``python -m fairseq_cli.train``, by a script that hands over to
    fairseq's ``cli_main``, such as the ``train.py`` of its repository, or any of these by torchrun.
    """
    program = _program()
    if program.name in FAIRSEQ_COMMANDS or program.parent.name == "fairseq_cli":
        return True
    main = sys.modules.get("__main__")
    entry = getattr(main, "cli_main", None)
    # a session or a notebook that imported cli_main shows its errors in its own way
    is_script = getattr(main, "__file__", None) is not None
    return is_script and str(getattr(entry, "__module__", "")).startswith("fairseq_cli.")


def is_evaluation() -> bool:
    """Whether this process is a command of fairseq's that reads models and trains none."""
    program = _program()
    if program.parent.name == "fairseq_cli":
        return program.stem.replace("_", "-") in _EVALUATION
    return program.name.removeprefix("fairseq-") in _EVALUATION


def _program() -> Path:
    """Return what was started; empty in an interactive interpreter, or an embedded one."""
    words = getattr(sys, "argv", None) or [""]
    return Path(str(words[0]))


def _module_being_started() -> str:
    """Return the module that ``python -m`` is looking for: until it is found, argv[0] is "-m"."""
    started = sys.orig_argv
    if len(started) <= len(sys.argv):
        return ""
    # the rest of both lists is the same, so this is the word that argv[0] stands for
    word = started[-len(sys.argv)]
    return word[2:] if word.startswith("-m") else word
