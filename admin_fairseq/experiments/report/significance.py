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

from ...errors import AdminError, first_of
from ...logs import read_generation
from .tables import NAMED, Row, canonical, label

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


class Translations:
    """The runs' translations and the paired tests of them, for all tables of a report.

    A run may stand in several tables: its translation is read once, and each pair tested once.

    Attributes:
        folder: of results.tsv, which the names of runs are relative to.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._outputs: dict[Path, Optional[Output]] = {}
        self._tested: dict[tuple[str, str, str], Comparison] = {}

    def warn_of_missing(self) -> None:
        """Say in one message which runs were not tested; nothing if all were."""
        missing = [path for path, output in self._outputs.items() if output is None]
        if not missing:
            return
        logger.warning(
            "missing, so that their runs are not tested for significance: %s",
            ", ".join(first_of(missing, NAMED)),
        )

    def test(self, first: Row, second: Row) -> Optional[Comparison]:
        """Return the paired test of two runs' translations, or None where one is missing.

        Raises:
            AdminError: if the runs translated different test sets.
        """
        # both are read, also where the first is missing: so all that are missing are named
        baseline, system = self._read(first), self._read(second)
        if baseline is None or system is None:
            return None
        pair = (first["run"], second["run"], first["subset"])
        if pair not in self._tested:
            self._tested[pair] = _test(first, second, baseline, system)
        return self._tested[pair]

    def _read(self, row: Row) -> Optional[Output]:
        path = self.folder / row["run"] / f"{row['subset']}.out"
        if path not in self._outputs:
            self._outputs[path] = read_generation(path) if path.is_file() else None
        return self._outputs[path]


def compare(rows: Sequence[Row], translations: Translations) -> list[Comparison]:
    """Return the paired tests between methods of the same depth and seed.

    Runs that diverged are not tested, nor are those whose translation is missing.

    Args:
        rows: one group of results, in the order in which methods are to be compared.
        translations: of the runs.

    Raises:
        AdminError: if two runs translated different test sets.
    """
    found = []
    for first, second in combinations(rows, 2):
        if not _comparable(first, second):
            continue
        comparison = translations.test(first, second)
        if comparison is not None:
            found.append(comparison)
    return found


def _test(first: Row, second: Row, baseline: Output, system: Output) -> Comparison:
    if baseline[0] != system[0]:
        raise AdminError(
            f"{first['run']} and {second['run']}: their outputs of {first['subset']} are of "
            "two test sets; translate again with admin-fairseq evaluate"
        )
    before, after, p, signature = paired_bootstrap(baseline[1], system[1], baseline[0])
    return Comparison(
        depth=first["depth"],
        seed=first["seed"],
        methods=(label(first["init_type"]), label(second["init_type"])),
        bleu=(before, after),
        p=p,
        signature=signature,
    )


def _comparable(first: Row, second: Row) -> bool:
    same_cell = first["depth"] == second["depth"] and first["seed"] == second["seed"]
    # by canonical words: two aliases are one method
    same_method = canonical(first["init_type"]) == canonical(second["init_type"])
    # of evaluate --loss-only there is no translation
    scored = all(row["bleu"] is not None and not row["diverged"] for row in (first, second))
    return same_cell and not same_method and scored
