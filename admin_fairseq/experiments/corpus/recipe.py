"""The [data] section of a recipe file: which texts make a corpus, and how they are treated."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Optional, Union

from ..values import Key, amount, lines, positive, read_value, words, yes_or_no

SUBSET = re.compile(r"train|valid|test\d*")


@dataclass(frozen=True)
class Source:
    """Aligned texts: one member per language of an archive, or (no archive) one file per language.

    ``members`` are patterns with ``{lang}`` and ``{side}`` (src, ref); the first that exists
    counts.
    """

    archive: Optional[str]
    members: tuple[str, ...]

    def names(self, lang: str, side: str) -> list[str]:
        """Return the names that the text of a language may have."""
        return [member.format(lang=lang, side=side) for member in self.members]


@dataclass(frozen=True)
class Corpus:
    """What a [data] section says. A recipe only for training names no more than its languages."""

    source: str = ""
    target: str = ""
    lowercase: bool = False
    merges: int = 0
    subsets: dict[str, list[Source]] = field(default_factory=dict)  # train, valid, test, test1, ...
    valid_every: Optional[int] = None  # every n-th line of train is validation
    url: Optional[str] = None  # where plain text files are
    checksums: dict[str, str] = field(default_factory=dict)  # unpacked text file -> sha256
    normalise: tuple[str, ...] = ()  # subsets whose punctuation is normalised
    printable: tuple[str, ...] = ()  # subsets whose non-printing characters become spaces
    apostrophes: tuple[str, ...] = ()  # subsets whose curly apostrophes become straight
    aggressive: bool = False  # the tokeniser splits at hyphens
    filter: tuple[str, ...] = ()  # subsets filtered by length and ratio
    filter_on: str = "tokens"  # or bpe: what the filter counts
    length: tuple[int, int] = (1, 250)
    ratio: float = 1.5
    news_commentary: Optional[str] = None
    published_lines: dict[str, int] = field(default_factory=dict)
    disk_gb: float = 0.0

    @property
    def languages(self) -> tuple[str, str]:
        """Source and target."""
        return self.source, self.target

    @property
    def sides(self) -> tuple[tuple[str, str], tuple[str, str]]:
        """Each language with what WMT's files call its side."""
        return (self.source, "src"), (self.target, "ref")

    @property
    def final_subsets(self) -> list[str]:
        """The subsets of data-bin, in fairseq's order."""
        tests = [name for name in self.subsets if name.startswith("test")]
        return ["train", "valid", *sorted(tests, key=_test_number)]


def _test_number(name: str) -> int:
    return int(name[len("test") :] or 0)


def applies(subset: str, names: tuple[str, ...]) -> bool:
    """Whether a subset is among ``names``, where ``test`` stands for every test set."""
    return subset in names or (subset.startswith("test") and "test" in names)


def _names(text: str) -> tuple[str, ...]:
    return tuple(words(text))


def _length(text: str) -> tuple[int, int]:
    low, high = text.split("-")
    return int(low), int(high)


def _filter_on(text: str) -> str:
    if text not in ("tokens", "bpe"):
        raise ValueError
    return text


def _checksums(text: str) -> dict[str, str]:
    found = {}
    for line in lines(text):
        digest, name = line.split()
        found[name] = digest
    return found


def _line_counts(text: str) -> dict[str, int]:
    found = {}
    for line in lines(text):
        subset, count = line.split()
        found[subset] = int(count)
    return found


def _texts(text: str) -> list[Source]:
    return [_source(line) for line in lines(text)]


def _source(line: str) -> Source:
    archive: Optional[str]
    archive, colon, members = line.partition(": ")
    if not colon:
        archive, members = None, line
    return Source(archive, tuple(member.strip() for member in members.split(" or ")))


def _texts_or_every(text: str) -> Union[list[Source], int]:
    every = re.fullmatch(r"every (\d+)", text)
    return positive(every[1]) if every else _texts(text)


_TEXTS = "[ARCHIVE: ]MEMBER, a line for each source"
_SUBSETS = "subsets, such as train test"
KEYS = {
    "source": Key(str, "a language code"),
    "target": Key(str, "a language code"),
    "lowercase": Key(yes_or_no, "yes or no"),
    "train": Key(_texts, _TEXTS),
    "valid": Key(_texts_or_every, f"every N, or {_TEXTS}"),
    "test": Key(_texts, _TEXTS),
    "merges": Key(positive, "a number of at least 1"),
    "url": Key(str, "an address", required=False),
    "checksums": Key(_checksums, "SHA256 FILE, a line for each", required=False),
    "normalise": Key(_names, _SUBSETS, required=False),
    "printable": Key(_names, _SUBSETS, required=False),
    "apostrophes": Key(_names, _SUBSETS, required=False),
    "aggressive": Key(yes_or_no, "yes or no", required=False),
    "filter": Key(_names, _SUBSETS, required=False),
    "filter_on": Key(_filter_on, "tokens or bpe", required=False),
    "length": Key(_length, "SHORTEST-LONGEST", required=False),
    "ratio": Key(amount, "a number", required=False),
    "news_commentary": Key(str, "a version, such as v12", required=False),
    "published_lines": Key(_line_counts, "SUBSET LINES, a line for each", required=False),
    "disk_gb": Key(amount, "gigabytes", required=False),
    "prepare": Key(str, "anything: only older releases read it", required=False),
}
_LANGUAGES = ("source", "target")  # all that a training needs of the section


def read_section(
    section: Mapping[str, str], whole: bool, languages: bool
) -> tuple[Corpus, list[str]]:
    """Return the :class:`Corpus` of a section, and what is wrong in it.

    Args:
        section: key -> text.
        whole: every key that preparing needs must be given.
        languages: the source and target languages must be given.
    """
    values: dict[str, Any] = {}
    problems = []
    for name, key in KEYS.items():
        wanted = (whole and key.required) or (languages and name in _LANGUAGES)
        if wanted and not section.get(name):
            problems.append(f"[data] {name} is missing")
    for name, text in section.items():
        known = "test" if SUBSET.fullmatch(name) and name not in KEYS else name
        if known not in KEYS:
            problems.append(f"[data] {name}: no such key (known: {', '.join(KEYS)}, test1, ...)")
            continue
        text = text.replace("{news_commentary}", section.get("news_commentary", ""))
        value = read_value(f"[data] {name}", text, KEYS[known], problems)
        if value is not None:
            values[name] = value
    return _corpus(values), problems


def _corpus(values: dict[str, Any]) -> Corpus:
    values = {**values}
    values.pop("prepare", None)
    every = values.pop("valid") if isinstance(values.get("valid"), int) else None
    subsets = {name: values.pop(name) for name in list(values) if SUBSET.fullmatch(name)}
    return Corpus(subsets=subsets, valid_every=every, **values)
