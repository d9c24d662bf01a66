"""Serving an Admin checkpoint: is the folded model's output the same, and how fast is each way?

Folds the checkpoint, converts it for CTranslate2 (float32 and int8), and translates a test set with
fairseq-generate on the checkpoint and on the fold (without the plugin), and with both CTranslate2
models. All ways take turns, round after round, so that a machine whose speed drifts does not
matter; sentences per second leave out loading. Prints hypotheses that differ from the checkpoint's,
and writes each way's output to DIR, for admin-fairseq score.
"""

import argparse
import os
import re
import statistics
import subprocess
import sys
import time
from pathlib import Path

import ctranslate2

import admin_fairseq
from admin_fairseq.deploy.ctranslate2_export import export_ctranslate2
from admin_fairseq.deploy.export import fold_checkpoint

USER_DIR = os.path.dirname(admin_fairseq.__file__)
WAYS = ("fairseq, Admin", "fairseq, folded", "CTranslate2, float32", "CTranslate2, int8")


def translate_fairseq(args, path, threads, user_dir):
    """Return seconds and number -> (source, reference, hypothesis) of fairseq-generate.

    Texts are BPE.
    """
    tool = Path(sys.executable).parent / "fairseq-generate"
    command = [tool, args.data, "--path", path, "--gen-subset", args.subset]
    command += ["--beam", args.beam, "--batch-size", args.batch_size]
    command += ["--cpu", "--required-batch-size-multiple", 1]
    command += ["--lenpen", args.lenpen, "--max-len-b", args.max_len]
    if user_dir:
        command += ["--user-dir", user_dir]
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
    result = subprocess.run(
        [str(word) for word in command], env=environment, capture_output=True, text=True
    )
    spent = re.search(
        r"Translated [\d,]+ sentences \([\d,]+ tokens\) in ([\d.]+)s", result.stderr + result.stdout
    )
    if result.returncode or not spent:
        raise SystemExit(
            f"{' '.join(str(word) for word in command)} failed:\n{result.stderr[-3000:]}"
        )
    texts = {}
    for kind, number, text in re.findall(r"^([STH])-(\d+)\t(.*)$", result.stdout, re.M):
        texts.setdefault(int(number), {})[kind] = text.split("\t", 1)[1] if kind == "H" else text
    sentences = {number: (found["S"], found["T"], found["H"]) for number, found in texts.items()}
    return float(spent[1]), sentences


def translate_ctranslate2(args, folder, threads, sentences):
    """Return seconds and number -> (source, reference, hypothesis) of CTranslate2.

    The sentences are those that fairseq translated.

    Several threads translate a batch each, or all the same batch (``--intra``).
    """
    inside, beside = (threads, 1) if args.intra else (1, threads)
    translator = ctranslate2.Translator(
        str(folder), device="cpu", intra_threads=inside, inter_threads=beside
    )
    numbers = sorted(sentences)
    sources = [sentences[number][0].split() for number in numbers]
    start = time.perf_counter()
    results = translator.translate_batch(
        sources,
        beam_size=args.beam,
        length_penalty=args.lenpen,
        max_batch_size=args.batch_size,
        max_decoding_length=args.max_len,
    )
    seconds = time.perf_counter() - start
    hypotheses = {
        number: " ".join(result.hypotheses[0]) for number, result in zip(numbers, results)
    }
    return seconds, {number: (*sentences[number][:2], hypotheses[number]) for number in numbers}


def prepare(args):
    """Fold and export what is not in --dest yet; returns the paths in the order of WAYS."""
    made = [args.dest / name for name in ("stock.pt", "ct2-float32", "ct2-int8")]
    paths = [Path(args.checkpoint), *made]
    args.dest.mkdir(parents=True, exist_ok=True)
    fold_checkpoint(args.checkpoint, str(paths[1]), safe=True, force=True)
    for path, quantization in zip(paths[2:], (None, "int8")):
        export_ctranslate2(args.checkpoint, str(path), quantization, data=args.data, force=True)
    return paths


def write_output(path, sentences):
    """Write translations in fairseq-generate's layout, without BPE's marks."""
    lines = []
    for number, (_, reference, hypothesis) in sorted(sentences.items()):
        lines += [f"T-{number}\t{reference}", f"H-{number}\t0\t{hypothesis}"]
    path.write_text("\n".join(lines).replace("@@ ", "") + "\n", encoding="utf-8")


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", help="the data-bin")
    parser.add_argument("checkpoint", help="an Admin checkpoint")
    parser.add_argument(
        "--dest", type=Path, required=True, metavar="DIR", help="where models and outputs go"
    )
    parser.add_argument(
        "--user-dir", default=USER_DIR, help="of the checkpoint (default: this package)"
    )
    parser.add_argument("--subset", default="test")
    parser.add_argument("--beam", type=int, default=5)
    parser.add_argument("--lenpen", type=float, default=1.0)
    parser.add_argument(
        "--max-len",
        type=int,
        default=200,
        help="fairseq's --max-len-b, CTranslate2's max_decoding_length",
    )
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument(
        "--intra",
        action="store_true",
        help="CTranslate2's threads share a batch (default: one each)",
    )
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    paths = prepare(args)
    print(
        f"ctranslate2 {ctranslate2.__version__}, beam {args.beam}, "
        f"batches of {args.batch_size}, {args.rounds} rounds"
    )
    for threads in args.threads:
        times = {way: [] for way in WAYS}
        for turn in range(args.rounds):
            expected = None
            for way, path in zip(WAYS, paths):
                if way.startswith("fairseq"):
                    user_dir = args.user_dir if path == paths[0] else None
                    seconds, sentences = translate_fairseq(args, path, threads, user_dir)
                else:
                    seconds, sentences = translate_ctranslate2(args, path, threads, expected)
                expected = expected or sentences
                times[way].append(seconds)
                if turn == 0:
                    other = sum(sentences[number] != expected[number] for number in expected)
                    print(
                        f"{way}, {threads} thread(s): {other} of {len(expected)} hypotheses differ",
                        flush=True,
                    )
                    write_output(args.dest / f"{way.replace(', ', '-')}.out", sentences)
        for way in WAYS:
            rates = sorted(len(expected) / seconds for seconds in times[way])
            ratios = sorted(first / seconds for first, seconds in zip(times[WAYS[0]], times[way]))
            print(
                f"{way}, {threads} thread(s): {statistics.median(rates):.1f} sentences/s "
                f"({rates[0]:.1f} to {rates[-1]:.1f}), {statistics.median(ratios):.2f} times "
                f"Admin in fairseq ({ratios[0]:.2f} to {ratios[-1]:.2f})",
                flush=True,
            )


if __name__ == "__main__":
    main()
