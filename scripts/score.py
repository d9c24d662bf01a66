"""Score an output of fairseq-generate: the numbers that people mix up, each with its signature.

Tokenised BLEU compares tokens as the data has them (what multi-bleu and fairseq print); sacreBLEU and
chrF compare detokenised hypotheses with the raw reference.
"""

import argparse

from sacrebleu.metrics import BLEU, CHRF
from sacremoses import MosesDetokenizer

from admin_fairseq.logs import read_generation


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("output", help="what fairseq-generate --remove-bpe printed")
    parser.add_argument("--reference", required=True, help="the raw reference, one sentence a line")
    parser.add_argument("--lang", required=True, help="its language, such as de")
    parser.add_argument("--lowercase", action="store_true", help="the model was trained on lowercased text")
    args = parser.parse_args()

    tokenised_references, hypotheses = read_generation(args.output)
    with open(args.reference, encoding="utf-8") as file:
        references = file.read().splitlines()
    if len(hypotheses) != len(references):
        parser.error(f"{args.output} has {len(hypotheses)} hypotheses, {args.reference} has {len(references)} lines")
    detokenizer = MosesDetokenizer(args.lang)
    texts = [detokenizer.detokenize(text.split(), unescape=False) for text in hypotheses]

    for name, metric, hypothesis, reference in (
        ("tokenised BLEU", BLEU(tokenize="none", force=True), hypotheses, tokenised_references),
        ("sacreBLEU", BLEU(lowercase=args.lowercase), texts, references),
        ("chrF", CHRF(lowercase=args.lowercase), texts, references),
    ):
        score = metric.corpus_score(hypothesis, [reference]).score
        print(f"{name:<15}{score:6.2f}  {metric.get_signature()}")


if __name__ == "__main__":
    main()
