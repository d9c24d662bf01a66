"""Paired significance between two translations of one test set.

sacreBLEU's paired bootstrap (Koehn, EMNLP 2004): the test set is drawn anew, with replacement, and
p is the share of draws in which the difference is larger by chance than the one that was measured.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Optional

from ...errors import AdminError
from ...logs import read_generation
from .tables import Row, canonical, label

logger = logging.getLogger(__name__)

SAMPLES = 1000

Output = tuple[list[str], list[str]]  # references, hypotheses


@dataclass(frozen=True)
class Comparison:
    """One paired test: the labels and tokenised BLEU of both methods, and p."""

    depth: str
    seed: int
    methods: tuple[str, str]
    bleu: tuple[float, float]
    p: float
    signature: str


def paired_bootstrap(
    baseline: Sequence[str],
    system: Sequence[str],
    references: Sequence[str],
    samples: int = SAMPLES,
) -> tuple[float, float, float, str]:
    """Return BLEU of baseline and system, p, and signature; tokens are compared as they are.

    Args:
        baseline: hypotheses, tokenised, in the order of ``references``.
        system: as ``baseline``.
        references: tokenised.
        samples: how many times the test set is drawn anew, with sacreBLEU's seed (12345, or
            $SACREBLEU_SEED).
    """
    # sacreBLEU brings numpy: reports without a pair to test do without
    from sacrebleu.metrics import BLEU
    from sacrebleu.significance import PairedTest, Result

    # it tells of every resampling
    logging.getLogger("sacrebleu").setLevel(logging.ERROR)
    test = PairedTest(
        [("baseline", list(baseline)), ("system", list(system))],
        {"BLEU": BLEU(tokenize="none", force=True)},
        [list(references)],
        "bs",
        n_samples=samples,
    )
    signatures, scores = test()
    first, second = scores["BLEU"]
    assert isinstance(first, Result) and isinstance(second, Result)
    p = second.p_value
    # without a difference no draw counts as larger, and sacreBLEU returns the smallest p, not 1
    if p is None or first.score == second.score:
        p = 1.0
    return first.score, second.score, p, str(signatures["BLEU"])


def format_p(p: float, samples: int = SAMPLES) -> str:
    """Return p with three digits, and ``<= 0.001`` where 1,000 samples cannot tell it from less.

    sacreBLEU's p is (k + 1) / (samples + 1), with k the draws of a larger difference: below
    1 / samples there is only k = 0.
    """
    return f"<= {1 / samples:g}" if at_floor(p, samples) else f"{p:.3f}"


def at_floor(p: float, samples: int = SAMPLES) -> bool:
    """Whether p is the smallest that so many samples can give."""
    return p <= 1 / samples


def compare(rows: Sequence[Row], folder: Path) -> list[Comparison]:
    """Return the paired tests between methods of the same depth and seed.

    Runs that diverged are not tested, nor are those whose translation is missing, which is warned
    of.

    Args:
        rows: one group of results, in the order in which methods are to be compared.
        folder: the folder of results.tsv.

    Raises:
        AdminError: if two runs translated different test sets.
    """
    outputs: dict[Path, Optional[Output]] = {}
    found = []
    for first, second in combinations(rows, 2):
        if not _comparable(first, second):
            continue
        # each is read once, also where the other is missing: so all that are missing are named
        baseline = _read_output(first, folder, outputs)
        system = _read_output(second, folder, outputs)
        if baseline is None or system is None:
            continue
        if baseline[0] != system[0]:
            raise AdminError(
                f"{first['run']} and {second['run']}: their outputs of {first['subset']} are of "
                "two test sets; translate again with admin-fairseq evaluate"
            )
        before, after, p, signature = paired_bootstrap(baseline[1], system[1], baseline[0])
        comparison = Comparison(
            depth=first["depth"],
            seed=first["seed"],
            methods=(label(first["init_type"]), label(second["init_type"])),
            bleu=(before, after),
            p=p,
            signature=signature,
        )
        found.append(comparison)
    return found


def _comparable(first: Row, second: Row) -> bool:
    same_cell = first["depth"] == second["depth"] and first["seed"] == second["seed"]
    # by canonical words: two aliases are one method
    same_method = canonical(first["init_type"]) == canonical(second["init_type"])
    # of evaluate --loss-only there is no translation
    scored = all(row["bleu"] is not None and not row["diverged"] for row in (first, second))
    return same_cell and not same_method and scored


def _read_output(row: Row, folder: Path, known: dict[Path, Optional[Output]]) -> Optional[Output]:
    path = folder / row["run"] / f"{row['subset']}.out"
    if path not in known:
        if path.is_file():
            known[path] = read_generation(path)
        else:
            known[path] = None
            logger.warning("%s is missing: its run is not tested for significance", path)
    return known[path]
