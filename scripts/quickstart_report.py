"""Print and draw what the quick start found: translations, scores, curves, omega by depth."""

import argparse
import logging
from pathlib import Path

from admin_fairseq import load_profile, plots
from admin_fairseq.experiments import results
from admin_fairseq.experiments.report.curves import read_curve
from admin_fairseq.experiments.report.tables import label
from admin_fairseq.logs import read_generation, read_log

SAMPLES = 3
SIGNATURES = ("sacrebleu_signature", "chrf_signature")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("dest", type=Path, help="the quick start's folder, with its results.tsv")
    args = parser.parse_args()
    # it tells each part of a picture that it reads
    logging.getLogger("PIL").setLevel(logging.WARNING)

    rows = name_runs(results.read(args.dest / "results.tsv"))
    translations = {}
    for name, row in rows.items():
        output = args.dest / row["run"] / f"{row['subset']}.out"
        references, translations[name] = read_generation(output)

    print_samples(args.dest, references, translations)
    figure = args.dest / "quickstart.png"
    draw(args.dest, rows, figure)
    signatures = {row[column]: None for row in rows.values() for column in SIGNATURES}
    print(f"\nsacreBLEU signatures: {'  and  '.join(filter(None, signatures))}")
    print(f"training curves and omega by depth: {figure}")
    print_scores(args.dest, rows, references, translations)


def name_runs(found):
    """Return name -> row of results.tsv; a name is a method, and where two share it, the run."""
    rows = {}
    for row in sorted(found, key=lambda row: row["run"]):
        name = label(row["init_type"])
        rows[row["run"] if name in rows else name] = row
    return rows


def print_samples(dest, references, translations):
    """Print the first sentences of the test set in all translations."""
    sources = (dest / "data" / "raw" / "test.en").read_text(encoding="utf-8").split("\n")
    for number in range(SAMPLES):
        print(f"\n  source     {sources[number]}\n  reference  {references[number]}")
        for name, texts in translations.items():
            print(f"  {name:<9}  {texts[number]}")


def print_scores(dest, rows, references, translations):
    """Print one line a run. Exact are the sentences that are translated to the letter."""
    first = next(iter(rows.values()))
    layers = "-".join(f"{depth}L" for depth in first["depth"].split("-"))
    heading = f"{layers}, seed {first['seed']}"
    exact_of = f"exact of {len(references)}"
    print(f"\n{heading:<19} updates  validation ppl   BLEU   chrF   {exact_of}")
    for name, row in rows.items():
        _, valid = read_log(dest / row["run"] / "train.log")
        exact = sum(map(str.__eq__, translations[name], references))
        numbers = f"{row['updates']:>11}{valid[-1]['ppl']:>16.2f}"
        print(f"{name:<16}{numbers}{row['sacrebleu']:>7.1f}{row['chrf']:>7.1f}{exact:>11}")


def draw(dest, rows, figure):
    """Draw the validation curves, and the omegas that Admin started from."""
    curves = {name: read_curve(dest / row["run"] / "train.log") for name, row in rows.items()}
    profile = load_profile(min((dest / "profiles").glob("*.profile")))
    plots.save_figure(
        figure,
        lambda axis: plots.draw_curves(axis, curves, "validation nll per token (bits)"),
        lambda axis: plots.draw_omega(axis, profile.stacks),
    )


if __name__ == "__main__":
    main()
