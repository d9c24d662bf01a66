"""Score an output of fairseq-generate: the numbers that people mix up, each with its signature.

Tokenised BLEU compares tokens as the data has them (what multi-bleu and fairseq print), with --compound-splitting
also with compounds split at hyphens; sacreBLEU and chrF compare detokenised hypotheses with the raw reference.
"""

import argparse

from scores import scores

from admin_fairseq.logs import read_generation


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("output", help="what fairseq-generate --remove-bpe printed")
    parser.add_argument("--reference", required=True, help="the raw reference, one sentence a line")
    parser.add_argument("--lang", required=True, help="its language, such as de")
    parser.add_argument(
        "--lowercase", action="store_true", help="the model was trained on lowercased text"
    )
    parser.add_argument(
        "--compound-splitting", action="store_true", help="add BLEU as tensor2tensor scores En-De"
    )
    args = parser.parse_args()

    tokenised_references, hypotheses = read_generation(args.output)
    with open(args.reference, encoding="utf-8") as file:
        references = file.read().split("\n")[:-1]
    if len(hypotheses) != len(references):
        parser.error(
            f"{args.output} has {len(hypotheses)} hypotheses, {args.reference} has {len(references)} lines"
        )
    for score in scores(
        hypotheses,
        tokenised_references,
        references,
        args.lang,
        args.lowercase,
        args.compound_splitting,
    ):
        print(f"{score.name:<15}{score.value:6.2f}  {score.signature}")


if __name__ == "__main__":
    main()
