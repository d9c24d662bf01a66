"""Measure tokenising: lines a CPU-second of sacremoses and of the package's own, on made-up text.

With --text: on a file of the user's, and the share of lines that the two split differently.
"""

import argparse
import itertools
import time
from pathlib import Path

from measure_preparation import lines_of, sentences

from admin_fairseq.experiments.corpus.text import Tokenising, tokenise

STEPS = {
    "tokeniser alone": {},
    "normalised, printable, aggressive": {
        "normalise": True,
        "printable": True,
        "aggressive": True,
    },
}


def measure(how, lines):
    """Lines a CPU-second, and what became of them; the second of two rounds counts."""
    for _ in range(2):
        started = time.process_time()
        made = [tokenise(how, line) for line in lines]
        seconds = time.process_time() - started
    return len(lines) / seconds, made


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--lines", type=int, default=20_000)
    parser.add_argument("--lang", default="en")
    parser.add_argument("--text", type=Path, help="a sentence a line")
    args = parser.parse_args()
    source = sentences(args.lang) if args.text is None else lines_of(args.text)
    lines = [line.rstrip("\n") for line in itertools.islice(source, args.lines)]
    for name, steps in STEPS.items():
        found = {}
        for tokeniser in ("sacremoses", "moses"):
            speed, found[tokeniser] = measure(
                Tokenising(args.lang, tokeniser=tokeniser, **steps), lines
            )
            print(f"{name}: {tokeniser} {speed:,.0f} lines a CPU-second")
        differ = sum(a.split() != b.split() for a, b in zip(*found.values()))
        print(f"{name}: {differ} of {len(lines)} lines differ ({differ / len(lines):.2%})")


if __name__ == "__main__":
    main()
