"""``python -m tests.gpu``, in a clone: run the checks and write the report."""

import argparse
import os
import shutil
import sys
import tempfile
import time
from pathlib import Path

STARTED = time.time()
MINUTES = 9.0
WAY_OUT = (
    "name another one with PYTHON, or see docs/speed.md on what a machine without a network needs"
)


def main(argv=None):
    """Return the exit code: 1 if a check failed or none could be made, 2 for a wrong call."""
    args = parse(argv)
    problem = what_is_missing()
    if problem:
        print(f"gpu_acceptance.sh: error: {problem}", file=sys.stderr)
        return 2

    try:
        from tests.gpu import trainers
        from tests.gpu.checks import CHECKS, chosen
    except ImportError as error:
        print(f"gpu_acceptance.sh: error: {error}; {WAY_OUT}", file=sys.stderr)
        return 2
    from tests.gpu.report import Report
    from tests.gpu.runner import run_all
    from tests.gpu.settings import Settings

    problem = what_does_not_fit(args, chosen(args.only))
    if problem:
        print(f"gpu_acceptance.sh: error: {problem}", file=sys.stderr)
        return 2
    report = Report(args.out)
    work = tempfile.mkdtemp(prefix="gpu-acceptance-")
    settings = Settings(
        device="cpu" if args.cpu else "cuda",
        work=work,
        data=find_data(args.data),
        deadline=STARTED + 60 * args.minutes,
    )
    try:
        run_all(chosen(args.only), CHECKS, trainers.prepare, settings, report)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return report.close(STARTED)


def parse(argv):
    parser = argparse.ArgumentParser(
        prog="gpu_acceptance.sh",
        description="What has to hold on a GPU, one line a check. Ends with 1 if a check failed.",
    )
    parser.add_argument("--out", metavar="FILE", help="write the report there as well")
    parser.add_argument(
        "--data",
        metavar="DIR",
        help="a corpus of fairseq-preprocess's, or the folder that has it as data-bin (that of "
        "scripts/prepare_multi30k.sh); without it a small one is generated",
    )
    parser.add_argument(
        "--minutes", type=float, default=MINUTES, help="when to be done (default: %(default)g)"
    )
    parser.add_argument(
        "--only", nargs="+", default=["*"], metavar="CHECK", help="names, or patterns of names"
    )
    parser.add_argument(
        "--cpu", action="store_true", help="rehearse with small models; it says nothing of a GPU"
    )
    return parser.parse_args(argv)


def what_is_missing():
    """Return what a machine lacks, and the way out; None if it has all."""
    import importlib.util

    names = ["torch", "fairseq", "hydra", "omegaconf", "sacrebleu", "num2words", "babel"]
    names += ["pytest", "hypothesis"]
    missing = [name for name in names if importlib.util.find_spec(name) is None]
    if not missing:
        return None
    return f"this Python ({sys.executable}) has no {', '.join(missing)}; {WAY_OUT}"


def what_does_not_fit(args, phases):
    """Return what is wrong with the arguments, on this machine; None if nothing is."""
    import torch

    if not args.cpu and not torch.cuda.is_available():
        return "torch sees no GPU here; --cpu rehearses the checks with small models"
    if args.data is not None and find_data(args.data) is None:
        return f"--data {args.data}: no dict.*.txt is there, nor in a data-bin in it"
    if len(phases) < 2:
        return f"--only {' '.join(args.only)}: there is no such check"
    if args.out is not None and not os.path.isdir(os.path.dirname(os.path.abspath(args.out))):
        return f"--out {args.out}: there is no such folder"
    return None


def find_data(name):
    if name is None:
        return None
    for folder in (Path(name), Path(name) / "data-bin"):
        if len(list(folder.glob("dict.*.txt"))) == 2:
            return str(folder.resolve())
    return None


if __name__ == "__main__":
    sys.exit(main())
