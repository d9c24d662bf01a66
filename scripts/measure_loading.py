"""What verifying a checkpoint costs beside loading it."""

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import torch

from admin_fairseq.checkpoints import check_file, check_finite


def cpu_seconds(function, *args, **kwargs):
    start = time.process_time()
    result = function(*args, **kwargs)
    return time.process_time() - start, result


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--gigabytes", type=float, default=1.0)
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    torch.set_num_threads(1)
    rows = int(args.gigabytes * 1e9 / 4 / 10 / 1000)
    rounds = []
    with tempfile.TemporaryDirectory(dir=".") as folder:
        path = Path(folder) / "large.pt"
        torch.save(
            {"model": {f"weight{number}": torch.randn(rows, 1000) for number in range(10)}}, path
        )
        size = path.stat().st_size
        for _ in range(args.rounds):
            checksums, _ = cpu_seconds(check_file, str(path))
            load, state = cpu_seconds(torch.load, path, weights_only=True)
            finite, _ = cpu_seconds(check_finite, state["model"], str(path))
            rounds.append((checksums, load, finite))
            print(
                "checksums {:.2f} s, loading {:.2f} s, finite weights {:.2f} s".format(*rounds[-1]),
                flush=True,
            )
    ratios = sorted((checksums + finite) / load for checksums, load, finite in rounds)
    print(
        f"{size / 1e9:.2f} GB: verifying takes {statistics.median(ratios):.2f} of loading "
        f"({ratios[0]:.2f} to {ratios[-1]:.2f})"
    )


if __name__ == "__main__":
    main()
