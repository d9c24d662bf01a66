"""The ``admin-fairseq`` command: what has to be done with profiles and checkpoints outside training."""

import argparse
import logging
import os
import sys
import warnings

from fairseq import utils

from . import authors, average, export, grow, profile_file
from .ctranslate2_export import QUANTIZATIONS, export_ctranslate2
from .errors import AdminError, PrintableFormatter
from .version import __version__


def build_parser():
    parser = argparse.ArgumentParser(
        prog="admin-fairseq",
        description="Tools for profiles and checkpoints of admin_fairseq. Training and translation are fairseq's "
        "own commands, with --user-dir admin_fairseq.",
    )
    parser.add_argument("--version", action="version", version=f"admin_fairseq {__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)

    command = commands.add_parser("profile", help="print a profile as a table, or draw it")
    command.add_argument("path", help="the profile: ours, or the authors' profile.ratio.init")
    command.add_argument("--plot", metavar="OUT.png", help="draw omega against depth, both stacks")
    command.add_argument(
        "--renew-checksum", action="store_true", help="first give a profile that was edited by hand a right checksum"
    )
    command.set_defaults(run=run_profile)

    command = commands.add_parser(
        "average",
        help="average checkpoints",
        description="Average the weights of checkpoints: those named, or the last ones of a --save-dir. "
        "Flags are those of fairseq's scripts/average_checkpoints.py.",
    )
    command.add_argument("--inputs", nargs="+", required=True, help="checkpoints, or one folder that holds them")
    command.add_argument("--output", required=True, help="the checkpoint to write")
    last = command.add_mutually_exclusive_group()
    last.add_argument("--num-epoch-checkpoints", type=positive, metavar="N", help="the last N of checkpointEPOCH.pt")
    last.add_argument("--num-update-checkpoints", type=positive, metavar="N", help="the last N by updates")
    command.add_argument(
        "--checkpoint-upper-bound", type=int, metavar="N", help="none after this epoch (or update)"
    )
    command.add_argument(
        "--checkpoint-suffix", metavar="SUFFIX", help="that of the training (default: the only one that is there)"
    )
    command.add_argument("--ema", action="store_true", help="average what --store-ema kept, instead of the weights")
    add_user_dir(command)
    command.set_defaults(run=run_average)

    command = commands.add_parser(
        "fold",
        help="rewrite a trained model as a stock transformer",
        description="Rewrite a trained model as a checkpoint of fairseq's own transformer with the same outputs, which "
        "needs no --user-dir. Average checkpoints before folding, not after.",
    )
    add_checkpoint(command, "OUT", "the checkpoint to write")
    command.add_argument(
        "--safe", action="store_true", help="write plain dictionaries: stock fairseq then loads it under torch's weights_only"
    )
    command.set_defaults(run=lambda args: export.fold_checkpoint(args.checkpoint, args.out, args.safe, args.force))

    command = commands.add_parser(
        "export",
        help="convert a trained model for serving",
        description="Fold a trained model and convert it for another runtime, with its vocabulary.",
    )
    command.add_argument("--format", required=True, choices=["ctranslate2"], help="the runtime")
    add_checkpoint(command, "DIR", "the folder to write")
    command.add_argument("--quantization", choices=QUANTIZATIONS, help="how weights are stored (default: float32)")
    command.add_argument("--data", metavar="DATA-BIN", help="has the dictionaries (default: the one of the training)")
    command.add_argument("--source-lang", help="default: that of the training")
    command.add_argument("--target-lang", help="default: that of the training")
    command.set_defaults(run=run_export)

    command = commands.add_parser(
        "import",
        help="take over a checkpoint of the authors' code",
        description="Write a checkpoint of the authors' code (Transformer-Clinic, fairseq 0.8) as one of this plugin, omegas "
        "included, for generation and fine-tuning.",
    )
    add_checkpoint(command, "OUT", "the checkpoint to write")
    command.set_defaults(run=lambda args: authors.import_checkpoint(args.checkpoint, args.out, args.force))

    grow.add_parser(commands)

    command = commands.add_parser("report", help="tables, significance and learning curves of a results.tsv")
    command.add_argument("results", help="the results.tsv that scripts/evaluate.sh wrote")
    command.add_argument("--out", metavar="DIR", help="where the report goes (default: report, beside results.tsv)")
    command.add_argument("--recipes", metavar="DIR", default=os.path.join("nmt-experiments", "recipes"),
                         help="recipe files, for the published numbers (default: %(default)s)")
    command.set_defaults(run=run_report)

    commands.add_parser("analyze", help="look at a model: dependency, output-change, gradients, stability")
    return parser


def add_checkpoint(command, metavar, what):
    command.add_argument("checkpoint", metavar="CHECKPOINT", help="the checkpoint to read")
    command.add_argument("out", metavar=metavar, help=what)
    command.add_argument("--force", action="store_true", help=f"replace {metavar} if it is there")
    add_user_dir(command)


def add_user_dir(command):
    command.add_argument("--user-dir", metavar="DIR", help="a user-dir of your own, whose architecture the checkpoint is of")


def positive(text):
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{value} is less than 1")
    return value


def run_profile(args):
    if args.renew_checksum:
        profile_file.renew_checksum(args.path)
    profile = profile_file.load(args.path)
    for key, value in profile.provenance.items():
        print(f"{key}: {value}")
    print()
    print(profile_file.table(profile))
    if args.plot:
        plot_profile(profile, args.plot)


def plot_profile(profile, path):
    """Draw a profile's omegas against depth, one line per stack."""
    from . import plots

    try:
        plots.save_figure(path, lambda axis: plots.draw_omega(axis, profile.stacks))
    except (OSError, ValueError) as error:  # ValueError: matplotlib does not know the file's ending
        raise AdminError(f"--plot {path}: {error}") from None


def run_average(args):
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
            raise AdminError("--checkpoint-upper-bound goes with --num-epoch-checkpoints or --num-update-checkpoints")
        folders = [path for path in paths if os.path.isdir(path)]
        if folders:
            raise AdminError(
                f"--inputs {folders[0]}: a folder; say which with --num-epoch-checkpoints or --num-update-checkpoints"
            )
    average.average_to_file(paths, args.output, args.ema)


def run_export(args):
    export_ctranslate2(
        args.checkpoint, args.out, args.quantization, args.data, (args.source_lang, args.target_lang), args.force
    )


def run_report(args):
    from . import report_page

    out = args.out or os.path.join(os.path.dirname(os.path.abspath(args.results)), "report")
    report_page.write(args.results, out, args.recipes)


def import_user_dir(path):
    """Import a user's own user-dir, as fairseq's commands do; this plugin's own is here already.

    Raises:
        AdminError: naming it, if it cannot be imported.
    """
    if os.path.basename(os.path.normpath(path)) == "admin_fairseq":
        return
    try:
        utils.import_user_module(argparse.Namespace(user_dir=path))
    except AdminError:
        raise
    except Exception as error:  # FileNotFoundError of fairseq's, and whatever the user's code raises
        reason = "no such folder" if isinstance(error, FileNotFoundError) else f"{type(error).__name__}: {error}"
        raise AdminError(f"--user-dir {path}: cannot be imported: {reason}") from error


def main(argv=None):
    """Run the command; exit code 0 if it worked, 1 for a mistake in the files, 2 for one in the flags."""
    # force: importing fairseq has configured logging already
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, force=True)
    for handler in logging.getLogger().handlers:
        handler.setFormatter(PrintableFormatter("%(message)s"))
    warnings.filterwarnings("ignore", module="torch")  # it warns of how fairseq calls it
    argv = sys.argv[1:] if argv is None else list(argv)
    try:
        if argv[:1] == ["analyze"]:  # its flags are those of fairseq-train as well
            from .analysis import command

            return command.main(argv[1:])
        args = build_parser().parse_args(argv)
        if getattr(args, "user_dir", None):
            import_user_dir(args.user_dir)
        args.run(args)
    except AdminError as error:
        print(f"admin-fairseq: error: {error}", file=sys.stderr)
        return 1
    except BrokenPipeError:  # the reader, such as head, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0
