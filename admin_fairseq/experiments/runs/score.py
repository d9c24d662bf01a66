"""``admin-fairseq score OUTPUT``: the numbers that people mix up, each with its signature."""

from argparse import ArgumentParser, Namespace
from typing import Any

from ...errors import AdminError
from ...logs import read_generation
from .translation import read_reference


def add_parser(commands: Any) -> None:
    """Add ``score`` to the subcommands of ``admin-fairseq``."""
    parser: ArgumentParser = commands.add_parser(
        "score",
        help="score an output of fairseq-generate in every way",
        description="Score an output of fairseq-generate: the numbers that people mix up, each "
        "with its signature. Tokenised BLEU compares tokens as the data has them (what multi-bleu "
        "and fairseq print), with --compound-splitting also with compounds split at hyphens; "
        "sacreBLEU and chrF compare detokenised hypotheses with the raw reference.",
    )
    parser.add_argument(
        "output", metavar="OUTPUT", help="what fairseq-generate --remove-bpe printed"
    )
    parser.add_argument(
        "--reference", required=True, metavar="FILE", help="the raw reference, a sentence a line"
    )
    parser.add_argument("--lang", required=True, help="its language, such as de")
    parser.add_argument(
        "--lowercase", action="store_true", help="the model was trained on lowercased text"
    )
    parser.add_argument(
        "--compound-splitting", action="store_true", help="add BLEU as tensor2tensor scores En-De"
    )
    parser.set_defaults(run=run)


def run(args: Namespace) -> None:
    """Print the scores.

    Raises:
        AdminError: if a file cannot be read, or the two are of different lengths.
    """
    from ..scores import scores

    tokenised_references, hypotheses = read_generation(args.output)
    references = read_reference(args.reference)
    if len(hypotheses) != len(references):
        raise AdminError(
            f"{args.output} has {len(hypotheses)} hypotheses, {args.reference} has "
            f"{len(references)} lines"
        )
    found = scores(
        hypotheses,
        tokenised_references,
        references,
        args.lang,
        args.lowercase,
        args.compound_splitting,
    )
    for score in found:
        print(f"{score.name:<15}{score.value:6.2f}  {score.signature}")
