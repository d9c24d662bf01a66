"""Raw text that is generated, for recipes whose text is not published."""

import logging

from .machine import missing_package
from .recipe import Corpus
from .stages import Output, Stages

log = logging.getLogger(__name__)


def generate(corpus: Corpus, stages: Stages) -> None:
    """Make raw/SUBSET.LANG of every subset, in one stage.

    Raises:
        AdminError: if what spells numbers and names days is not installed.
    """
    # test and validation come first: they stay the same whatever the size of the training set
    sizes, outputs = {}, []
    for subset in reversed(corpus.final_subsets):
        if subset in corpus.pairs:
            sizes[subset] = corpus.pairs[subset]
            outputs += corpus.paths("raw", subset)
    settings = {
        "generator": corpus.generator,
        "seed": corpus.generator_seed,
        "pairs": sizes,
        "languages": corpus.languages,
    }

    def make(*files: Output) -> None:
        try:
            from . import numbers_and_dates
        except ModuleNotFoundError as error:
            raise missing_package(error) from None
        log.info(
            "generating %s", ", ".join(f"{sizes[subset]:,} {subset} pairs" for subset in sizes)
        )
        by_path = dict(zip(outputs, files))
        for subset, pairs in numbers_and_dates.make_pairs(corpus.generator_seed, sizes):
            for lang in corpus.languages:
                column = numbers_and_dates.LANGUAGES.index(lang)
                for pair in pairs:
                    by_path[f"raw/{subset}.{lang}"].line(pair[column])

    stages.run("raw-generated", [], outputs, settings, make)
