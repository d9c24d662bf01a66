"""Recipe files: what an experiment trains, and on what, as the papers' tables say it.

A recipe is an INI file of five sections: ``[data]``, ``[model]``, ``[training]``, ``[evaluation]``
and ``[published]``. In the three in the middle a key may be given for one depth alone:
``tokens-per-update 60-12 = 16 x 5000 x 16``.
"""

import configparser
import logging
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Optional, Union

from ..errors import AdminError, raise_all
from . import published
from .corpus import recipe as corpus_recipe
from .corpus.recipe import Corpus
from .published import Published
from .values import (
    DEPTH,
    Key,
    amount,
    amounts,
    betas,
    depths,
    dims,
    factors,
    max_len,
    positive,
    read_value,
    seeds,
    token_counts,
    took,
    whole,
    yes_or_no,
)

logger = logging.getLogger(__name__)
RECIPES = Path(__file__).with_name("recipes")
TO_PREPARE = ("data",)
TO_TRAIN = ("model", "training", "evaluation")

KEYS = {
    "model": {
        "arch": Key(str, "an architecture"),
        "dims": Key(dims, "embedding / ffn / heads, such as 512 / 2048 / 8"),
        "depths": Key(depths, "ENCODER-DECODER, ..., such as 6-6, 18-18"),
        "dropout": Key(amount, "a number"),
        # of the profiling stage, if it is another than the training's
        "profile-dropout": Key(amount, "a number", required=False),
        "attention-dropout": Key(amount, "a number"),
        "activation-dropout": Key(amount, "a number"),
        "xavier-ffn": Key(yes_or_no, "yes or no"),
        "zero-qkv-bias": Key(yes_or_no, "yes or no", required=False),
    },
    "training": {
        # the criterion, optimizer and layers of docs/speed.md
        "fast": Key(yes_or_no, "yes or no", required=False),
        "optimizer": Key(str, "an optimizer"),
        "betas": Key(betas, "beta1 / beta2, each below 1"),
        "lr": Key(amount, "a number"),
        "warmup": Key(positive, "a number of updates"),
        "label-smoothing": Key(amount, "a number"),
        "weight-decay": Key(amount, "a number"),
        "clip-norm": Key(amount, "a number"),
        "tokens-per-update": Key(factors, "PROCESSES x TOKENS [x UPDATE-FREQ]"),
        "epochs": Key(positive, "a number of epochs", required=False),
        "updates": Key(positive, "a number of updates", required=False),
        "seeds": Key(seeds, "whole numbers"),
        # without: each run's own seed
        "profile-seed": Key(int, "a whole number", required=False),
        "no-warmup-lr": Key(amounts, "learning rates", required=False),
        "no-warmup-beta2": Key(amounts, "values of beta2", required=False),
        "no-warmup-updates": Key(positive, "a number of updates", required=False),
        "validate-every": Key(positive, "a number of updates", required=False),
        # checkpoints by updates, instead of one an epoch
        "save-every": Key(positive, "a number of updates", required=False),
        # checkpoints beside those of epochs, to go on from after a kill
        "checkpoint-every": Key(positive, "a number of updates", required=False),
        "log-every": Key(positive, "a number of updates", required=False),
        # processes that load data
        "workers": Key(whole, "a whole number of at least 0", required=False),
    },
    "evaluation": {
        "average": Key(positive, "a number of checkpoints, the last ones"),
        "beam": Key(positive, "a number of at least 1"),
        "lenpen": Key(amount, "a number"),
        "max-len": Key(max_len, "A / B: A times the source's tokens + B", required=False),
        "compound-splitting": Key(yes_or_no, "yes or no"),
        # what a training of the recipe's length reaches, by which "diverged" is judged
        "reference-nll": Key(amount, "a validation loss in bits a token", required=False),
    },
    # what ``plan`` reckons with as long as the data is not prepared, and what was published
    "plan": {
        "pairs": Key(positive, "a number of sentence pairs", required=False),
        "tokens": Key(token_counts, "SOURCE / TARGET, of which one may be unknown", required=False),
        "types": Key(positive, "a number of types", required=False),
        "from": Key(str, "where these are from", required=False),
        "took": Key(took, "HOURS hours, N x GPU, SOURCE", required=False),
    },
}


@dataclass(frozen=True)
class Recipe:
    """What a recipe file says.

    Keys and sections that its reader did not need may be missing: then ``get`` returns None,
    ``published`` is empty, and a :class:`Corpus` without texts has empty ``subsets``.
    """

    name: str
    path: Path
    data: Corpus
    published: dict[tuple[str, str], Published]  # (init type, depth) -> a paper's number
    values: dict[tuple[str, str, Optional[str]], Any] = field(default_factory=dict)

    def get(self, section: str, key: str, depth: Optional[str] = None) -> Any:
        """Return a value for a depth, or that for all depths, or None."""
        if (section, key, depth) in self.values:
            return self.values[section, key, depth]
        return self.values.get((section, key, None))

    @property
    def depths(self) -> list[str]:
        """The depths that the experiment compares, ENCODER-DECODER."""
        found: list[str] = self.get("model", "depths")
        return found

    @property
    def source(self) -> str:
        """The source language."""
        return self.data.source

    @property
    def target(self) -> str:
        """The target language."""
        return self.data.target

    @property
    def lowercase(self) -> bool:
        """Whether the text of the corpus is lowercased."""
        return self.data.lowercase


def recipe_names() -> list[str]:
    """Return the names of the recipes that the package brings."""
    return sorted(path.stem for path in RECIPES.glob("*.ini"))


def find_recipe(word: Union[str, Path]) -> Path:
    """Return the file of a recipe: of the name of one that the package brings, or of a path.

    Raises:
        AdminError: if there is no such file; the message lists the names.
    """
    path = Path(word)
    # names first: a file in the working folder that is called so is ./NAME
    if str(word) in recipe_names():
        return RECIPES / f"{word}.ini"
    if path.is_file():
        return path
    # runs and command lines of earlier releases name the recipes by the folder that they were in
    if path.suffix == ".ini" and path.parent.parts[-2:] == ("nmt-experiments", "recipes"):
        moved = RECIPES / path.name
        if moved.is_file():
            return moved
    raise AdminError(
        f"recipe {word}: no such file, and no recipe of this name. Known are "
        f"{', '.join(recipe_names())}; a recipe of your own is named by its path, my.ini"
    )


def read_recipe(
    word: Union[str, Path],
    needs: Collection[str] = (),
    replaced: Optional[Mapping[str, str]] = None,
) -> Recipe:
    """Read a recipe.

    Args:
        word: the name of a recipe of the package, or the path of a file.
        needs: the sections that must be whole: ``TO_PREPARE``, ``TO_TRAIN``, or none.
        replaced: [data] key -> text that replaces the file's.

    Raises:
        AdminError: naming every key, of any section, that is missing, unknown or unreadable.
    """
    path = find_recipe(word)
    parser = _parse(path)
    data = _section(parser, "data")
    problems = []
    for key, text in (replaced or {}).items():
        if key not in data:
            problems.append(f"--{key.replace('_', '-')}: this recipe has no such choice")
        data[key] = text
    corpus, found = corpus_recipe.read_section(data, "data" in needs, languages=bool(needs))
    problems += found
    values: dict[tuple[str, str, Optional[str]], Any] = {}
    for section in KEYS:
        problems += _read_section(parser, section, values, section in needs)
    if "training" in needs and not _has_an_end(values):
        problems.append("[training] neither epochs nor updates: the training would not end")
    papers, found = published.read_section(_section(parser, "published"))
    problems += found
    raise_all(f"{path} is not a whole recipe:", problems)
    return Recipe(path.stem, path, corpus, papers, values)


def read_published(path: Union[str, Path]) -> dict[tuple[str, str], Published]:
    """Return the papers' numbers of a recipe; none, with a warning, if there is no such recipe."""
    try:
        path = find_recipe(path)
    except AdminError:
        logger.warning("%s: no such recipe: the published columns of its table stay empty", path)
        return {}
    return read_recipe(path).published


def _parse(path: Path) -> configparser.ConfigParser:
    parser = configparser.ConfigParser(
        delimiters=("=",),
        comment_prefixes=("#",),
        inline_comment_prefixes=("#",),
        # per cent signs stand for themselves
        interpolation=None,
    )
    try:
        # -sig: editors on Windows put a mark before the text
        with open(path, encoding="utf-8-sig") as file:
            parser.read_file(file)
    except (OSError, UnicodeDecodeError) as error:
        raise AdminError(f"{path}: cannot be read as a recipe: {error}") from None
    except configparser.Error as error:
        raise AdminError(f"{path}: not a recipe: {error.message}") from None
    return parser


def _section(parser: configparser.ConfigParser, name: str) -> dict[str, str]:
    return dict(parser[name]) if parser.has_section(name) else {}


def _read_section(
    parser: configparser.ConfigParser,
    section: str,
    values: dict[tuple[str, str, Optional[str]], Any],
    whole: bool,
) -> list[str]:
    """Put the values of a section into ``values``; return what is wrong in it."""
    keys, texts = KEYS[section], _section(parser, section)
    problems: list[str] = []
    for name, text in texts.items():
        word, _, depth = name.partition(" ")
        if word not in keys or (depth and not DEPTH.fullmatch(depth)):
            known = ", ".join(keys)
            problems.append(
                f"[{section}] {name}: no such key (known: {known}; KEY DEPTH for one depth)"
            )
            continue
        value = read_value(f"[{section}] {name}", text, keys[word], problems)
        if value is not None:
            values[section, word, depth or None] = value
    for name, key in keys.items():
        if whole and key.required and not texts.get(name):
            problems.append(f"[{section}] {name} is missing")
    return problems


def _has_an_end(values: Mapping[tuple[str, str, Optional[str]], Any]) -> bool:
    return any(("training", key, None) in values for key in ("epochs", "updates"))
