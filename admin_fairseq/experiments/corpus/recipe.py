"""The [data] section of a recipe file: which texts make a corpus, and how they are treated."""

import configparser
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Dict, List, Optional, Tuple

from ...errors import AdminError, raise_all

RECIPES = Path(__file__).resolve().parents[2] / "nmt-experiments" / "recipes"
REQUIRED = ("source", "target", "lowercase", "train", "valid", "test", "merges")
OPTIONAL = [
    "prepare",
    "url",
    "checksums",
    "normalise",
    "printable",
    "apostrophes",
    "aggressive",
    "filter",
    "filter_on",
    "length",
    "ratio",
]
OPTIONAL += ["news_commentary", "published_lines", "disk_gb"]
SUBSET = re.compile(r"train|valid|test\d*")


@dataclass(frozen=True)
class Source:
    """Aligned texts: one member per language of an archive, or (no archive) one file per language.

    ``members`` are patterns with ``{lang}`` and ``{side}`` (src, ref), the first that is there counts.
    """

    archive: Optional[str]
    members: Tuple[str, ...]

    def names(self, lang, side):
        return [member.format(lang=lang, side=side) for member in self.members]


@dataclass
class Recipe:
    name: str
    source: str
    target: str
    lowercase: bool
    merges: int
    subsets: Dict[str, List[Source]]  # train, valid (unless split off), test, test1, ...
    valid_every: Optional[int]  # every n-th line of train is validation
    url: Optional[str] = None  # where plain text files are
    checksums: Dict[str, str] = field(
        default_factory=dict
    )  # of unpacked text files: name -> sha256
    normalise: Tuple[str, ...] = ()  # subsets whose punctuation is normalised
    printable: Tuple[str, ...] = ()  # subsets whose non-printing characters become spaces
    apostrophes: Tuple[str, ...] = ()  # subsets whose curly apostrophes become straight
    aggressive: bool = False  # the tokeniser splits at hyphens
    filter: Tuple[str, ...] = ()  # subsets filtered by length and ratio
    filter_on: str = "tokens"  # or bpe: what the filter counts
    length: Tuple[int, int] = (1, 250)
    ratio: float = 1.5
    news_commentary: Optional[str] = None
    published_lines: Dict[str, int] = field(default_factory=dict)
    disk_gb: float = 0.0

    @property
    def sides(self):
        return ((self.source, "src"), (self.target, "ref"))

    @property
    def final_subsets(self):
        """The subsets of data-bin, in fairseq's order."""
        return ["train", "valid"] + sorted(
            (name for name in self.subsets if name.startswith("test")), key=_test_number
        )


def _test_number(name):
    return int(name[4:] or 0)


def applies(subset, names):
    """Whether a subset is among ``names``, where ``test`` stands for every test set."""
    return subset in names or (subset.startswith("test") and "test" in names)


def find_recipe(word):
    """Return the path of a recipe: a name of nmt-experiments/recipes, or a file."""
    path = Path(word) if word.endswith(".ini") else RECIPES / f"{word}.ini"
    if not path.is_file():
        raise AdminError(f"--recipe {word}: there is no file {path}")
    return path


def read_recipe(path, news_commentary=None, merges=None):
    """Return the :class:`Recipe` of a file; the arguments replace what it says.

    Raises:
        AdminError: naming every mistake of the section at once.
    """
    parser = configparser.ConfigParser(  # as scripts/training/recipe.py reads it
        delimiters=("=",),
        comment_prefixes=("#",),
        inline_comment_prefixes=("#",),
        interpolation=None,
    )
    try:
        with open(path, encoding="utf-8") as file:
            parser.read_file(file)
    except configparser.Error as error:
        raise AdminError(f"{path}: {error}") from None
    if not parser.has_section("data"):
        raise AdminError(f"{path}: there is no section [data]")
    data = dict(parser["data"])
    problems = [f"{key} is missing" for key in REQUIRED if not data.get(key)]
    problems += [
        f"{key}: no such key"
        for key in data
        if key not in (*REQUIRED, *OPTIONAL) and not SUBSET.fullmatch(key)
    ]
    if news_commentary and "news_commentary" not in data:
        problems.append("--news-commentary: this recipe has no such choice")
    raise_all(f"{path}, section [data]:", problems)
    if news_commentary:
        data["news_commentary"] = news_commentary
    if merges is not None:
        data["merges"] = str(merges)
    try:
        return _recipe(Path(path).stem, data)
    except ValueError as error:
        raise AdminError(f"{path}, section [data]: {error}") from None


def _recipe(name, data):
    every = re.fullmatch(r"every (\d+)", data["valid"])
    texts = {
        key: value
        for key, value in data.items()
        if SUBSET.fullmatch(key) and not (key == "valid" and every)
    }
    words = {
        key: tuple(data.get(key, "").split())
        for key in ("normalise", "printable", "apostrophes", "filter")
    }
    low, high = (int(word) for word in data.get("length", "1-250").split("-"))
    if data.get("filter_on", "tokens") not in ("tokens", "bpe"):
        raise ValueError("filter_on is tokens or bpe")
    if int(data["merges"]) < 1:
        raise ValueError("merges must be at least 1")
    return Recipe(
        name=name,
        source=data["source"],
        target=data["target"],
        lowercase=_yes(data["lowercase"]),
        merges=int(data["merges"]),
        subsets={
            key: [_source(line, data) for line in text.splitlines() if line.strip()]
            for key, text in texts.items()
        },
        valid_every=int(every[1]) if every else None,
        url=data.get("url"),
        checksums={
            file: digest for digest, file in (line.split() for line in _lines(data, "checksums"))
        },
        aggressive=_yes(data.get("aggressive", "no")),
        filter_on=data.get("filter_on", "tokens"),
        length=(low, high),
        ratio=float(data.get("ratio", "1.5")),
        news_commentary=data.get("news_commentary"),
        published_lines={
            subset: int(count)
            for subset, count in (line.split() for line in _lines(data, "published_lines"))
        },
        disk_gb=float(data.get("disk_gb", "0")),
        **words,
    )


def _lines(data, key):
    return [line for line in data.get(key, "").splitlines() if line.strip()]


def _yes(word):
    if word not in ("yes", "no"):
        raise ValueError(f"{word}: yes or no is wanted")
    return word == "yes"


def _source(line, data):
    line = line.strip().replace("{news_commentary}", data.get("news_commentary", ""))
    archive, colon, members = line.partition(": ")
    if not colon:
        archive, members = None, line
    return Source(archive, tuple(member.strip() for member in members.split(" or ")))
