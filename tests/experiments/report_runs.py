"""A results.tsv with its runs' logs and translations, as admin-fairseq evaluate leaves them."""

import random

from admin_fairseq.experiments import results

WORDS = ["ein", "Hund", "läuft", "über", "die", "Wiese", "und", "bellt"]
RECORD = '| valid | {"valid_loss": "5", "valid_nll_loss": "%s", "valid_num_updates": "%d"}\n'


def write_log(folder, name, curve):
    """A run's log; ``curve``: [(updates, bits)]."""
    (folder / name).mkdir(exist_ok=True)
    text = "".join(RECORD % (bits, updates) for updates, bits in curve)
    (folder / name / "train.log").write_text(text)


def write_run(folder, name, seed, wrong):
    """A run's log and translation; ``wrong``: share of words that are wrong."""
    rng, references = random.Random(seed), random.Random(7)
    write_log(folder, name, [(10, 6.5), (20, 4.5)])
    lines = []
    for number in range(60):
        reference = [references.choice(WORDS) for _ in range(8)]
        hypothesis = [word if rng.random() > wrong else "x" for word in reference]
        lines += [f"T-{number}\t{' '.join(reference)}", f"H-{number}\t-0.5\t{' '.join(hypothesis)}"]
    (folder / name / "test.out").write_text("\n".join(lines) + "\n")


def row(run, init_type, seed, bleu, **more):
    """A line of results.tsv; columns that are not named are left out."""
    return {
        "run": run,
        "data": "iwslt14_de-en",
        "subset": "test",
        "init_type": init_type,
        "depth": "6-6",
        "seed": seed,
        "bleu": bleu,
        "averaged": "last 10 epochs",
        "decoding": "beam 5",
        **more,
    }


def full_row(run, init_type, seed, bleu, **more):
    """The same with all columns, as ``results.read`` returns it."""
    return {**dict.fromkeys(results.COLUMNS), **row(run, init_type, seed, bleu, **more)}


def write_table(folder):
    """Two seeds of Post-LN and one of Admin, and a third of Post-LN that diverged."""
    rows = []
    for number, (init_type, seed, wrong) in enumerate(
        [("default", 1, 0.4), ("default", 2, 0.4), ("adaptive", 1, 0.1)]
    ):
        write_run(folder, f"r{number}", number, wrong)
        rows.append(row(f"r{number}", init_type, seed, 30.0 + 1.7 * number))
    rows.append(
        row(
            "r<b>",
            "default",
            3,
            None,
            diverged='at update 9: non-finite <loss> & "more"',
            averaged=None,
            decoding=None,
        )
    )
    results.append(folder / "results.tsv", rows)
    return folder / "results.tsv"
