"""Train every init type at one depth, with the same seeds, learning rate and updates, and compare.

Each run is profiled where its init type wants it, trained, and used to translate a test set, with
fairseq's own commands. Stopped in between, it goes on where it was. Results: one line a run in
DEST/results.tsv, the curves in DEST/curves.png, and a table for the card on standard output.

    python scripts/compare_init_types.py quickstart data/quickstart --dest runs/compare-quickstart
    python scripts/compare_init_types.py multi30k data/multi30k_en-de --dest runs/compare-multi30k --seeds 1111
"""

import argparse
import csv
import logging
import math
import os
import shlex
import statistics
import subprocess
import zipfile
from collections import Counter, OrderedDict
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from fairseq.data import Dictionary, data_utils
from sacrebleu.metrics import BLEU
from sacremoses import MosesDetokenizer

from admin_fairseq import plots
from admin_fairseq.logs import read_generation, read_log

METHODS = OrderedDict(
    [
        ("Post-LN", "--init-type default"),
        ("Pre-LN", "--init-type default --encoder-normalize-before --decoder-normalize-before"),
        ("Admin", "--init-type adaptive"),
        ("analytic", "--init-type analytic"),
        ("DeepNet", "--init-type deepnet"),
        ("ReZero", "--init-type rezero"),
        ("ReZero Post-LN", "--init-type rezero_postln"),
        ("looks-linear", "--init-type looklinear"),
    ]
)
COMMON = """--user-dir admin_fairseq --cpu --num-workers 0 --share-all-embeddings --dropout 0.1 --optimizer adam
    --adam-betas (0.9,0.98) --clip-norm 0 --lr-scheduler inverse_sqrt --warmup-init-lr 1e-7
    --criterion label_smoothed_cross_entropy --label-smoothing 0.1 --log-format json --log-interval 20
    --no-epoch-checkpoints --keep-interval-updates 1"""
CORPORA = {
    "quickstart": {
        "train": """--arch admin_transformer --encoder-layers 18 --decoder-layers 18 --encoder-embed-dim 64
            --encoder-ffn-embed-dim 128 --encoder-attention-heads 4 --decoder-attention-heads 4
            --lr 1e-3 --warmup-updates 300 --max-tokens 1024 --max-update 600
            --validate-interval-updates 50 --save-interval-updates 100""",
        "generate": "--beam 4 --batch-size 128 --remove-bpe",
        "reference": "text/test.de",
        "lowercase": False,
    },
    "multi30k": {
        "train": """--arch admin_transformer_tiny --encoder-layers 12 --decoder-layers 12
            --lr 1.5e-3 --warmup-updates 400 --max-tokens 2048 --max-update 480
            --validate-interval-updates 60 --save-interval-updates 120""",
        "generate": "--beam 5 --batch-size 128 --remove-bpe",
        "reference": "raw/test.de",
        "lowercase": True,
    },
}


logging.getLogger("sacrebleu").setLevel(
    logging.ERROR
)  # a model that failed puts out bare full stops


class Run:
    """One training, and what came of it."""

    def __init__(self, method, seed, corpus, data, dest):
        self.method, self.seed, self.corpus, self.data = method, seed, CORPORA[corpus], data
        self.folder = dest / f"{method.lower().replace(' ', '-')}-seed{seed}"
        self.log, self.output = self.folder / "train.log", self.folder / "test.out"

    def command(self, init_type):
        flags = f"{COMMON} {self.corpus['train']} {init_type} --seed {self.seed}".split()
        return [
            "fairseq-train",
            str(self.data / "data-bin"),
            *flags,
            "--save-dir",
            str(self.folder),
        ]

    def finish(self):
        """Do what is not yet done."""
        self.folder.mkdir(parents=True, exist_ok=True)
        init_type = METHODS[self.method]
        profile = self.folder / "admin.profile"
        if "adaptive" in init_type and not profile.exists():
            execute(self.command("--init-type adaptive-profiling"), self.folder / "profile.log")
        if not (self.log.exists() and "done training" in self.log.read_text()):
            last = self.folder / "checkpoint_last.pt"
            if last.exists() and not zipfile.is_zipfile(last):
                last.unlink()  # fairseq copies this file without care: a killed run leaves a part
            execute(self.command(init_type), self.log)
        if not self.output.exists():
            part = self.output.with_suffix(".part")
            part.unlink(missing_ok=True)
            words = [
                "fairseq-generate",
                str(self.data / "data-bin"),
                "--user-dir",
                "admin_fairseq",
                "--cpu",
            ]
            words += [
                "--path",
                str(self.folder / "checkpoint_last.pt"),
                *self.corpus["generate"].split(),
            ]
            execute(words, part)
            part.rename(self.output)
        print(f"done: {self.folder}", flush=True)

    def score(self):
        """Return BLEU and its signature."""
        references = (self.data / self.corpus["reference"]).read_text(encoding="utf-8").splitlines()
        hypotheses = read_generation(self.output)[1]
        if len(hypotheses) != len(references):
            raise SystemExit(
                f"{self.output}: {len(hypotheses)} hypotheses for {len(references)} sentences"
            )
        if self.corpus["lowercase"]:  # Multi30k is tokenised; the quick start's corpus is not
            detokenizer = MosesDetokenizer("de")
            hypotheses = [
                detokenizer.detokenize(text.split(), unescape=False) for text in hypotheses
            ]
        metric = BLEU(lowercase=self.corpus["lowercase"])
        return metric.corpus_score(hypotheses, [references]).score, str(metric.get_signature())

    def curve(self):
        """Return [(updates, validation nll in bits a token)]."""
        return [
            (record["num_updates"], float(record["nll_loss"])) for record in read_log(self.log)[1]
        ]


def execute(words, log):
    """Run a command, its output into ``log``."""
    with open(log, "a") as file:
        code = subprocess.run(
            words, stdout=file, stderr=subprocess.STDOUT, env={**os.environ, "OMP_NUM_THREADS": "1"}
        )
    if code.returncode:
        raise SystemExit(f"{shlex.join(words)}\nfailed: see {log}")


def unigram_bits(data_bin):
    """Return the validation set's nll, in bits a token, under the training set's target unigrams."""
    target = Dictionary.load(str(data_bin / "dict.de.txt"))
    counts = {}
    for split in ("train", "valid"):
        dataset = data_utils.load_indexed_dataset(str(data_bin / f"{split}.en-de.de"), target)
        counts[split] = Counter(
            token for index in range(len(dataset)) for token in dataset[index].tolist()
        )
    total = sum(counts["train"].values())
    bits = sum(
        n * -math.log2(max(counts["train"][token], 1) / total)
        for token, n in counts["valid"].items()
    )
    return bits / sum(counts["valid"].values())


def diverged(curve, unigram, best):
    """Whether a run ended non-finite, or gained less than a quarter of what the best run did over a unigram model."""
    finite = all(math.isfinite(value) for _, value in curve)
    return not finite or unigram - curve[-1][1] < 0.25 * (unigram - best)


def report(runs, dest, unigram):
    """Write results.tsv and curves.png; print the card's table."""
    curves = {run: run.curve() for run in runs}
    best = min(curve[-1][1] for curve in curves.values() if math.isfinite(curve[-1][1]))
    trained = [run for run in runs if not diverged(curves[run], unigram, best)]
    common = max(curves[run][-1][1] for run in trained) if trained else float("nan")
    rows, signature = [], ""
    for run in runs:
        bleu, signature = run.score()
        reached = next((update for update, value in curves[run] if value <= common), None)
        failed = run not in trained
        rows.append(
            (
                run.method,
                run.seed,
                int(failed),
                curves[run][-1][0],
                curves[run][-1][1],
                reached,
                bleu,
            )
        )
    with open(dest / "results.tsv", "w", newline="") as file:
        writer = csv.writer(file, delimiter="\t", lineterminator="\n")
        writer.writerow(
            [
                "method",
                "seed",
                "diverged",
                "updates",
                "valid_nll_bits",
                "updates_to_common_nll",
                "bleu",
            ]
        )
        writer.writerows(rows)
    print(
        f"unigram model: {unigram:.2f} bits; common validation nll: {common:.2f} bits; BLEU {signature}\n"
    )
    print(
        "| init type | diverged | updates to the common loss | final nll, bits | BLEU |\n|---|---|---|---|---|"
    )
    for method in METHODS:
        mine = [row for row in rows if row[0] == method]
        if mine:
            reached = ", ".join(str(row[5] or "never") for row in mine)
            failures = f"{sum(row[2] for row in mine)} of {len(mine)}"
            print(
                f"| {method} | {failures} | {reached} | {spread([r[4] for r in mine])} | {spread([r[6] for r in mine], 1)} |"
            )
    plots.save_figure(
        dest / "curves.png",
        lambda axis: plots.draw_curves(
            axis, first_of_each(runs, curves), "validation nll per token (bits)"
        ),
    )


def first_of_each(runs, curves):
    """Return method -> the curve of its first seed."""
    first = OrderedDict()
    for run in runs:
        first.setdefault(run.method, curves[run])
    return first


def spread(values, digits=2):
    """Return mean ± sample standard deviation, as text."""
    mean = f"{statistics.mean(values):.{digits}f}"
    return mean if len(values) == 1 else f"{mean} ± {statistics.stdev(values):.{digits}f}"


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("corpus", choices=CORPORA)
    parser.add_argument(
        "data", type=Path, help="what prepare_quickstart.sh or prepare_multi30k.sh made"
    )
    parser.add_argument("--dest", type=Path, required=True)
    parser.add_argument("--seeds", nargs="+", type=int, default=[1, 2, 3])
    parser.add_argument(
        "--methods", nargs="+", choices=METHODS, default=list(METHODS), metavar="METHOD"
    )
    parser.add_argument("--jobs", type=int, default=2, help="trainings at a time, one thread each")
    parser.add_argument("--report", action="store_true", help="train nothing: report what is done")
    args = parser.parse_args()

    runs = [
        Run(method, seed, args.corpus, args.data, args.dest)
        for seed in args.seeds
        for method in args.methods
    ]
    if not args.report:
        with ThreadPoolExecutor(args.jobs) as pool:
            list(pool.map(Run.finish, runs))
    report(
        [run for run in runs if run.output.exists()],
        args.dest,
        unigram_bits(args.data / "data-bin"),
    )


if __name__ == "__main__":
    main()
