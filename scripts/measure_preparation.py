"""Measure the preparation of a corpus: lines per second and peak memory by stage, at several sizes.

The text is made up: words of a Zipf distribution over a fixed vocabulary, sentences of 5 to 45
tokens with punctuation, or lines of two files that the user has (--text). It goes through
``admin-fairseq prepare`` with a recipe of its own, as any corpus does. Each size is one run, in a
process of its own.
"""

import argparse
import itertools
import json
import os
import random
import resource
import subprocess
import sys
import time
from pathlib import Path

STAGES = ("raw", "tok", "split", "vocabulary", "codes", "bpe", "clean", "data-bin")
LANGS = ("en", "de")
RECIPE = """[data]
source = en
target = de
lowercase = no
url = http://localhost
train = train.{{lang}}
valid = every 1000
test = test.{{lang}}
normalise = train test
printable = train
aggressive = yes
filter = train
filter_on = bpe
length = 1-250
ratio = 1.5
merges = {merges}
tokeniser = {tokeniser}
escape = {escape}
"""


def sentences(lang, types=200_000, seed=1):
    """Yield made-up sentences for ever."""
    rng = random.Random(f"{lang}{seed}")
    lengths = random.Random(seed)  # the same for both sides: they are about as long
    ends = ("a", "e", "i", "o", "u", "ei", "au", "en", "er", "st")
    syllables = ["".join(pair) for pair in itertools.product("bdfgklmnprstvwz", ends)]
    words = ["".join(rng.choices(syllables, k=rng.randint(1, 4))) for _ in range(types)]
    cumulative = list(itertools.accumulate(1 / (rank + 2.7) for rank in range(types)))
    while True:
        length = lengths.randint(5, 45) + rng.randint(0, 2)
        text = rng.choices(words, cum_weights=cumulative, k=length)
        if length > 12:
            text[length // 2] += ","
        text[0] = text[0].capitalize()
        yield " ".join(text) + rng.choice([".", ".", ".", "?", "!", '."'])


def lines_of(path):
    with open(path, encoding="utf-8", newline="\n") as file:
        yield from file


def write_text(folder, pairs, text):
    folder.mkdir(parents=True, exist_ok=True)
    for side, lang in enumerate(LANGS):
        source = sentences(lang) if text is None else lines_of(text[side])
        with open(folder / f"train.{lang}", "w", encoding="utf-8") as file:
            for _, line in zip(range(pairs), source):
                file.write(line.rstrip("\n") + "\n")
        head = itertools.islice(lines_of(folder / f"train.{lang}"), 1000)
        (folder / f"test.{lang}").write_text("".join(head), encoding="utf-8")


def peak_memory(process, dest, every=0.2):
    """Wait for a process group; return stage -> peak, in MB, of its processes' own memory (PSS).

    The stage is told by the newest unfinished file.
    """
    peaks = dict.fromkeys(STAGES, 0.0)
    while process.poll() is None:
        stage, total = stage_now(dest), 0.0
        for found in Path("/proc").glob("[0-9]*"):
            try:
                if os.getpgid(int(found.name)) == process.pid:
                    total += own_memory(found)
            except OSError:
                continue  # it has just ended
        if stage == stage_now(dest) and stage:
            peaks[stage] = max(peaks[stage], total)
        time.sleep(every)
    return peaks


def own_memory(process):
    """Return the PSS of a process, a folder of /proc, in MB."""
    for line in (process / "smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) / 1e3
    return 0.0


def stage_now(dest):
    """Return the stage whose files are being written, or None in between."""
    # texts are written as NAME.xxxxxxxx.tmp, the folder data-bin as data-bin.part
    for path in [*dest.glob("*.part"), *dest.glob("*/*.tmp")]:
        if path.parent.name == "stages":
            continue
        name = path.name if path.parent == dest else path.parent.name
        if path.parent.name == "bpe" and path.name.startswith(("vocabulary", "codes")):
            name = path.name
        stage = next((stage for stage in STAGES if name.startswith(stage)), None)
        if stage:
            return stage
    return None


def measure(folder, pairs, jobs, text, **keys):
    write_text(folder / "text", pairs, text)
    (folder / "recipe.ini").write_text(RECIPE.format(**keys), encoding="utf-8")
    command = [sys.executable, "-m", "admin_fairseq", "prepare", folder / "recipe.ini"]
    command += ["--from", folder / "text", "--dest", folder / "data", "--jobs", jobs]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    with open(folder / "log", "wb") as log:
        words = [str(word) for word in command]
        started, cpu = time.monotonic(), cpu_seconds_of_children()
        process = subprocess.Popen(
            words, stdout=log, stderr=subprocess.STDOUT, start_new_session=True, env=environment
        )
        peaks = peak_memory(process, folder / "data")
    if process.returncode != 0:
        sys.exit(f"the preparation failed: see {folder / 'log'}")
    wall, cpu = time.monotonic() - started, cpu_seconds_of_children() - cpu
    records = folder / "data" / "stages"
    return [stage_seconds(records, key) for key in ("seconds", "cpu_seconds")], wall, cpu, peaks


def cpu_seconds_of_children():
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def stage_seconds(records, key):
    """Return stage -> seconds, summed over subsets and languages."""
    seconds = dict.fromkeys(STAGES, 0.0)
    for path in records.glob("*.json"):
        stage = next((stage for stage in STAGES if path.name.startswith(stage)), None)
        if stage:
            seconds[stage] += json.loads(path.read_text(encoding="utf-8")).get(key, 0.0)
    return seconds


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("dest", type=Path, help="a new folder")
    parser.add_argument(
        "--pairs",
        type=int,
        nargs="+",
        default=[100_000, 1_000_000],
        help="sizes, in sentence pairs",
    )
    parser.add_argument("--jobs", type=int, default=2, help="processes")
    parser.add_argument("--merges", type=int, default=32764, help="joint BPE merges")
    parser.add_argument(
        "--text", nargs=2, metavar=("EN", "DE"), help="two aligned files, instead of made-up text"
    )
    parser.add_argument(
        "--tokeniser", choices=["moses", "sacremoses"], default="moses", help="moses: escaped"
    )
    args = parser.parse_args()
    keys = {"merges": args.merges, "tokeniser": args.tokeniser}
    keys["escape"] = "yes" if args.tokeniser == "moses" else "no"
    for pairs in args.pairs:
        folder = args.dest / str(pairs)
        (seconds, cpu), wall, total, peaks = measure(folder, pairs, args.jobs, args.text, **keys)
        print(
            f"{pairs:,} pairs, {args.jobs} processes: {wall:,.0f} s in all, {total:,.0f} CPU-s "
            f"(load {os.getloadavg()[1]:.1f})"
        )
        for stage in STAGES:
            rate = f"{2 * pairs / seconds[stage]:>10,.0f} lines/s" if stage != "codes" else " " * 18
            memory = f"{peaks[stage]:,.0f} MB" if peaks[stage] else "too short to see"
            print(
                f"  {stage:<12}{seconds[stage]:>8.1f} s {cpu[stage]:>8.1f} CPU-s {rate}   "
                f"peak {memory}"
            )
        print(f"  slowest: {max(seconds, key=seconds.get)}", flush=True)


if __name__ == "__main__":
    main()
