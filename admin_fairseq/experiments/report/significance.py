"""Paired significance between two translations of one test set: sacreBLEU's paired bootstrap (Koehn, 2004)."""

import logging

from sacrebleu.metrics import BLEU
from sacrebleu.significance import PairedTest

SAMPLES = 1000
logging.getLogger("sacrebleu").setLevel(logging.ERROR)  # it tells of every resampling


def paired_bootstrap(baseline, system, references, samples=SAMPLES):
    """Return (BLEU of baseline, BLEU of system, p, signature); tokens are compared as they are.

    Args:
        baseline, system: hypotheses, tokenised, in the order of ``references``.
        samples: how many times the test set is drawn anew, with sacreBLEU's seed (12345, or $SACREBLEU_SEED).
    """
    metric = BLEU(tokenize="none", force=True)
    test = PairedTest(
        [("baseline", baseline), ("system", system)],
        {"BLEU": metric},
        [references],
        "bs",
        n_samples=samples,
    )
    signatures, scores = test()
    first, second = scores["BLEU"]
    # without a difference sacreBLEU counts no sample as larger, and returns the smallest p instead of 1
    p = 1.0 if first.score == second.score else second.p_value
    return first.score, second.score, p, str(signatures["BLEU"])
