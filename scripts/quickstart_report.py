"""Print and draw what the quick start found: scores with their signature, translations, curves, omegas."""

import argparse
from collections import OrderedDict
from pathlib import Path

from sacrebleu.metrics import BLEU, CHRF

from admin_fairseq import plots, profile_file
from admin_fairseq.logs import read_generation, read_log

MODELS = OrderedDict([("Admin", "admin"), ("Post-LN", "post-ln")])


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("dest", type=Path, help="the quick start's folder")
    parser.add_argument("--seed", type=int, required=True)
    args = parser.parse_args()

    sources, references = (
        (args.dest / "text" / f"test.{lang}").read_text(encoding="utf-8").splitlines()
        for lang in ("en", "de")
    )
    bleu, chrf = BLEU(), CHRF()
    curves, rows, outputs = OrderedDict(), [], OrderedDict()
    for name, folder in MODELS.items():
        _, valid = read_log(args.dest / folder / "train.log")
        curves[name] = [(record["num_updates"], record["nll_loss"]) for record in valid]
        outputs[name] = read_generation(args.dest / folder / "test.out")[1]
        if len(outputs[name]) != len(references):
            raise SystemExit(
                f"{folder}/test.out: {len(outputs[name])} hypotheses for {len(references)} sentences"
            )
        scores = [metric.corpus_score(outputs[name], [references]).score for metric in (bleu, chrf)]
        exact = sum(h == r for h, r in zip(outputs[name], references))
        rows.append((name, valid[-1]["num_updates"], valid[-1]["ppl"], *scores, exact))

    for number in range(3):
        print(f"\n  source     {sources[number]}\n  reference  {references[number]}")
        for name, texts in outputs.items():
            print(f"  {name:<9}  {texts[number]}")

    figure = args.dest / "quickstart.png"
    draw(args.dest, curves, figure)
    print(f"\nsacreBLEU signatures: {bleu.get_signature()}  and  {chrf.get_signature()}")
    print(f"training curves and omega by depth: {figure}")
    print(
        f"\n18L-18L, seed {args.seed}     updates  validation ppl   BLEU   chrF   exact of {len(references)}"
    )
    for name, updates, ppl, bleu_score, chrf_score, exact in rows:
        print(f"{name:<20}{updates:>11}{ppl:>16.2f}{bleu_score:>7.1f}{chrf_score:>7.1f}{exact:>11}")


def draw(dest, curves, figure):
    """Draw the validation curves and the omegas that Admin started from."""
    profile = profile_file.load(dest / "admin" / "admin.profile")
    plots.save_figure(
        figure,
        lambda axis: plots.draw_curves(axis, curves, "validation nll per token (bits)"),
        lambda axis: plots.draw_omega(axis, profile.stacks),
    )


if __name__ == "__main__":
    main()
