"""The ``admin-fairseq`` command: profiles, checkpoints and experiments around a training.

Parsing needs neither torch nor fairseq. A subcommand imports what it needs when it runs; those that
need the plugin say so, and it is registered for them.
"""

import argparse
import logging
import os
import sys
import warnings
from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from typing import Any, Optional

from . import register, user_dir
from .analysis import command as analyze
from .deploy import QUANTIZATIONS
from .errors import AdminError, PrintableFormatter
from .experiments.corpus import command as prepare
from .experiments.plan import command as plan
from .experiments.report import command as report
from .experiments.runs import evaluate, score, sweep, train
from .experiments.runs.flags import split_extra
from .profile import command as profile
from .version import __version__

# subcommands whose words after ``--`` are flags of fairseq-train
_HANDING_ON = ("train", "sweep")


def _build_parser() -> ArgumentParser:
    """Return the parser of the command with all its subcommands."""
    parser = ArgumentParser(
        prog="admin-fairseq",
        description="Tools for profiles, checkpoints and experiments of admin_fairseq. Training "
        "and translation are fairseq's own commands, with --user-dir admin_fairseq.",
    )
    parser.add_argument("--version", action="version", version=f"admin_fairseq {__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    for add in (
        prepare.add_parser,
        plan.add_parser,
        train.add_parser,
        sweep.add_parser,
        evaluate.add_parser,
        score.add_parser,
        profile.add_parser,
        user_dir.add_parser,
        _add_average,
        _add_fold,
        _add_export,
        _add_import,
        _add_grow_vocabulary,
        report.add_parser,
        report.add_curves_parser,
        _add_analyze,
    ):
        add(commands)
    return parser


def _add_average(commands: Any) -> None:
    command = commands.add_parser(
        "average",
        help="average checkpoints",
        description="Average the weights of checkpoints: those named, or the last ones of a "
        "--save-dir. Flags are those of fairseq's scripts/average_checkpoints.py.",
    )
    command.add_argument(
        "--inputs", nargs="+", required=True, help="checkpoints, or one folder that holds them"
    )
    command.add_argument("--output", required=True, help="the checkpoint to write")
    last = command.add_mutually_exclusive_group()
    last.add_argument(
        "--num-epoch-checkpoints",
        type=_positive,
        metavar="N",
        help="the last N of checkpointEPOCH.pt",
    )
    last.add_argument(
        "--num-update-checkpoints", type=_positive, metavar="N", help="the last N by updates"
    )
    command.add_argument(
        "--checkpoint-upper-bound", type=int, metavar="N", help="none after this epoch (or update)"
    )
    command.add_argument(
        "--checkpoint-suffix",
        metavar="SUFFIX",
        help="that of the training (default: the only one found)",
    )
    command.add_argument(
        "--ema", action="store_true", help="average what --store-ema kept, instead of the weights"
    )
    _add_user_dir(command)
    command.set_defaults(run=_run_average, plugin=True)


def _run_average(args: Namespace) -> None:
    from .checkpoints import average

    count = args.num_epoch_checkpoints or args.num_update_checkpoints
    if count:
        if len(args.inputs) != 1:
            raise AdminError("--inputs: name one folder to take the last checkpoints from")
        by_updates = args.num_update_checkpoints is not None
        paths = average.find_checkpoints(
            args.inputs[0], count, by_updates, args.checkpoint_upper_bound, args.checkpoint_suffix
        )
    else:
        paths = args.inputs
        if args.checkpoint_upper_bound is not None:
            raise AdminError(
                "--checkpoint-upper-bound goes with --num-epoch-checkpoints or "
                "--num-update-checkpoints"
            )
        folders = [path for path in paths if os.path.isdir(path)]
        if folders:
            raise AdminError(
                f"--inputs {folders[0]}: a folder; say which with --num-epoch-checkpoints or "
                "--num-update-checkpoints"
            )
    average.average_to_file(paths, args.output, args.ema)


def _add_fold(commands: Any) -> None:
    command = commands.add_parser(
        "fold",
        help="rewrite a trained model as a stock transformer",
        description="Rewrite a trained model as a checkpoint of fairseq's own transformer with the "
        "same outputs, which needs no --user-dir. Average checkpoints before folding, not after.",
    )
    _add_checkpoint(command, "OUT", "the checkpoint to write")
    command.add_argument(
        "--safe",
        action="store_true",
        help="write plain dictionaries: stock fairseq then loads it under torch's weights_only",
    )
    command.set_defaults(run=_run_fold, plugin=True)


def _run_fold(args: Namespace) -> None:
    from .deploy import export

    export.fold_checkpoint(args.checkpoint, args.out, args.safe, args.force)


def _add_export(commands: Any) -> None:
    command = commands.add_parser(
        "export",
        help="convert a trained model for serving",
        description="Fold a trained model and convert it for another runtime, with its vocabulary.",
    )
    command.add_argument("--format", required=True, choices=["ctranslate2"], help="the runtime")
    _add_checkpoint(command, "DIR", "the folder to write")
    command.add_argument(
        "--quantization", choices=QUANTIZATIONS, help="how weights are stored (default: float32)"
    )
    command.add_argument(
        "--data", metavar="DATA-BIN", help="has the dictionaries (default: the one of the training)"
    )
    command.add_argument("--source-lang", help="default: that of the training")
    command.add_argument("--target-lang", help="default: that of the training")
    command.set_defaults(run=_run_export, plugin=True)


def _run_export(args: Namespace) -> None:
    from .deploy.ctranslate2_export import export_ctranslate2

    languages = (args.source_lang, args.target_lang)
    export_ctranslate2(
        args.checkpoint, args.out, args.quantization, args.data, languages, args.force
    )


def _add_import(commands: Any) -> None:
    command = commands.add_parser(
        "import",
        help="take over a checkpoint of the authors' code",
        description="Write a checkpoint of the authors' code (Transformer-Clinic, fairseq 0.8) as "
        "one of this plugin, omegas included, for generation and fine-tuning.",
    )
    _add_checkpoint(command, "OUT", "the checkpoint to write")
    command.set_defaults(run=_run_import, plugin=True)


def _run_import(args: Namespace) -> None:
    from .checkpoints import authors

    authors.import_checkpoint(args.checkpoint, args.out, args.force)


def _add_grow_vocabulary(commands: Any) -> None:
    command = commands.add_parser(
        "grow-vocabulary",
        help="give a model rows for the words of a larger dictionary",
        description="Write a checkpoint whose embeddings are those of a larger dictionary, for "
        "fine-tuning on text with new words. Rows of known words stay; the optimizer's state is "
        "left out.",
    )
    command.add_argument("checkpoint", metavar="CHECKPOINT", help="the checkpoint to read")
    command.add_argument("out", metavar="OUT", help="the checkpoint to write")
    for flag, whose in (("--old", "the model's"), ("--new", "the larger")):
        text = f"has {whose} dictionaries; or one file for both sides"
        command.add_argument(flag, required=True, metavar="DATA-BIN", help=text)
    command.add_argument(
        "--seed", type=int, default=1, metavar="N", help="of the new rows (default: %(default)s)"
    )
    command.add_argument("--force", action="store_true", help="replace OUT if it exists")
    command.set_defaults(run=_run_grow_vocabulary, plugin=True)


def _run_grow_vocabulary(args: Namespace) -> None:
    from .checkpoints import grow

    grow.grow_vocabulary(args.checkpoint, args.out, args.old, args.new, args.seed, args.force)


def _add_analyze(commands: Any) -> None:
    # its flags are those of fairseq-train as well: ``analysis.command`` parses them
    commands.add_parser(
        "analyze",
        help="look at a model: dependency, output-change, gradients, updates, stability, trace",
    )


def _add_checkpoint(command: ArgumentParser, metavar: str, what: str) -> None:
    command.add_argument("checkpoint", metavar="CHECKPOINT", help="the checkpoint to read")
    command.add_argument("out", metavar=metavar, help=what)
    command.add_argument("--force", action="store_true", help=f"replace {metavar} if it exists")
    _add_user_dir(command)


def _add_user_dir(command: ArgumentParser) -> None:
    command.add_argument(
        "--user-dir",
        metavar="DIR",
        help="a user-dir of your own, whose architecture the checkpoint is of",
    )


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{value} is less than 1")
    return value


def _parse(words: list[str]) -> Namespace:
    """Return the flags; those after ``--`` are ``extra``, for subcommands that hand them on."""
    parser = _build_parser()
    extra: list[str] = []
    if words and words[0] in _HANDING_ON:
        words, extra = split_extra(words)
    args = parser.parse_args(words)
    args.extra = extra
    return args


def _log_to_stderr() -> None:
    # force: importing fairseq configures logging as well
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, force=True)
    for handler in logging.getLogger().handlers:
        handler.setFormatter(PrintableFormatter("%(message)s"))


def _register_plugin() -> None:
    register()
    warnings.filterwarnings("ignore", module="torch")  # it warns of how fairseq calls it


def main(argv: Optional[Sequence[str]] = None) -> int:
    """Run the command.

    Returns:
        The exit code: 0 if it worked, 1 for a mistake in the files. Flags that are not known end in
        2, as argparse has it.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    try:
        if words[:1] == ["analyze"]:
            # not by argparse's subcommands: every flag of fairseq-train is one of analyze's too
            if analyze.needs_plugin(words[1:]):
                _register_plugin()
            _log_to_stderr()
            return analyze.main(words[1:])
        args = _parse(words)
        if getattr(args, "plugin", False):
            _register_plugin()
        _log_to_stderr()
        if getattr(args, "user_dir", None):
            user_dir.import_user_dir(args.user_dir)
        return args.run(args) or 0
    except AdminError as error:
        print(f"admin-fairseq: error: {error}", file=sys.stderr)
        return 1
    except BrokenPipeError:  # the reader, such as head, has seen enough
        # Python flushes what is left when it ends, and would raise once more
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0
