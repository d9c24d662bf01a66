"""Paired significance between two translations of one test set: sacreBLEU's paired bootstrap (Koehn, 2004)."""

from sacrebleu.metrics import BLEU
from sacrebleu.significance import PairedTest

SAMPLES = 1000


def paired_bootstrap(baseline, system, references, samples=SAMPLES):
    """Return (BLEU of baseline, BLEU of system, p, signature); tokens are compared as they are.

    Args:
        baseline, system: hypotheses, tokenised, in the order of ``references``.
        samples: how many times the test set is drawn anew, with sacreBLEU's seed (12345, or $SACREBLEU_SEED).
    """
    metric = BLEU(tokenize="none", force=True)
    test = PairedTest(
        [("baseline", baseline), ("system", system)], {"BLEU": metric}, [references], "bs", n_samples=samples
    )
    signatures, scores = test()
    first, second = scores["BLEU"]
    return first.score, second.score, second.p_value, str(signatures["BLEU"])
