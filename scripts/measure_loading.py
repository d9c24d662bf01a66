"""What verifying a checkpoint costs beside loading it; and, with --average, what a mean costs.

``--average N`` makes N checkpoints with an optimizer's state, averages them, and loads one of them
as each command does that trains nothing, each in a process of its own. ``--other DIR`` does the
same with another copy of this repository, in turn.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch

from admin_fairseq.checkpoints import check_file, check_finite

REPOSITORY = Path(__file__).resolve().parent.parent
MEASURED = """
import re, sys, time
from admin_fairseq.checkpoints import average, load_checkpoint
import torch
torch.set_num_threads(1)
# not ru_maxrss, which begins with that of the process that started this one
peak = lambda: int(re.search(r"VmHWM:\\s*(\\d+)", open("/proc/self/status").read())[1]) / 1024
before, started = peak(), time.process_time()
paths = sys.argv[2:]
state = average.average(paths) if sys.argv[1] == "average" else load_checkpoint(paths[0])
print(time.process_time() - started, peak() - before)
"""


def cpu_seconds(function, *args, **kwargs):
    start = time.process_time()
    result = function(*args, **kwargs)
    return time.process_time() - start, result


def measure_verifying(folder, gigabytes, rounds):
    rows = int(gigabytes * 1e9 / 4 / 10 / 1000)
    path = folder / "large.pt"
    torch.save(
        {"model": {f"weight{number}": torch.randn(rows, 1000) for number in range(10)}}, path
    )
    size = path.stat().st_size
    measured = []
    for _ in range(rounds):
        checksums, _ = cpu_seconds(check_file, str(path))
        load, state = cpu_seconds(torch.load, path, weights_only=True)
        finite, _ = cpu_seconds(check_finite, state["model"], str(path))
        measured.append((checksums, load, finite))
        print(
            "checksums {:.2f} s, loading {:.2f} s, finite weights {:.2f} s".format(*measured[-1]),
            flush=True,
        )
    ratios = sorted((checksums + finite) / load for checksums, load, finite in measured)
    print(
        f"{size / 1e9:.2f} GB: verifying takes {statistics.median(ratios):.2f} of loading "
        f"({ratios[0]:.2f} to {ratios[-1]:.2f})"
    )


def write_checkpoints(folder, gigabytes, count):
    """Weights and both of Adam's moments, a third of the size each."""
    rows = int(gigabytes * 1e9 / 3 / 4 / 10 / 1000)
    paths = []
    for number in range(count):
        weights, moments = {}, {}
        for weight in range(10):
            weights[f"weight{weight}"] = torch.randn(rows, 1000)
            both = {"exp_avg": torch.randn(rows, 1000), "exp_avg_sq": torch.rand(rows, 1000)}
            moments[weight] = both
        paths.append(folder / f"checkpoint{number}.pt")
        torch.save({"model": weights, "last_optimizer_state": {"state": moments}}, paths[-1])
    return paths


def measure_averaging(paths, rounds, trees):
    measured = {}
    for _ in range(rounds):
        for what in ("average", "load"):
            for tree in trees:
                words = [sys.executable, "-c", MEASURED, what, *map(str, paths)]
                environment = {**os.environ, "PYTHONPATH": str(tree), "OMP_NUM_THREADS": "1"}
                told = subprocess.run(words, env=environment, stdout=subprocess.PIPE, check=True)
                row = [float(word) for word in told.stdout.split()]
                measured.setdefault((what, str(tree)), []).append(row)
    for (what, tree), rows in measured.items():
        seconds, peaks = ([row[column] for row in rows] for column in (0, 1))
        print(
            f"{what}, {tree}: {statistics.median(seconds):.2f} CPU-s ({min(seconds):.2f} to "
            f"{max(seconds):.2f}), peak {statistics.median(peaks):,.0f} MiB beyond the imports"
        )


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--gigabytes", type=float, default=1.0, help="of a checkpoint")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--average", type=int, metavar="N", help="checkpoints")
    parser.add_argument("--other", type=Path, metavar="DIR", help="another copy, to compare with")
    args = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory(dir=".") as folder:
        if args.average is None:
            measure_verifying(Path(folder), args.gigabytes, args.rounds)
            return
        paths = write_checkpoints(Path(folder), args.gigabytes, args.average)
        trees = [tree for tree in (REPOSITORY, args.other) if tree]
        measure_averaging([path.resolve() for path in paths], args.rounds, trees)


if __name__ == "__main__":
    main()
