"""The [data] section of a recipe file: which texts make a corpus, and how they are treated."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Optional, Union

from ...errors import AdminError
from ..values import Key, amount, lines, positive, read_value, words, yes_or_no

_SUBSET = re.compile(r"train|valid|test\d*")


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
class _Every:
    """Validation is every n-th line of train."""

    lines: int


@dataclass(frozen=True)
class _Pairs:
    """A number of sentence pairs that a generator makes."""

    count: int


@dataclass(frozen=True)
class Corpus:
    """What a [data] section says. A recipe only for training names no more than its languages."""

    source: str = ""
    target: str = ""
    lowercase: bool = False
    merges: int = 0
    subsets: dict[str, list[Source]] = field(default_factory=dict)  # train, valid, test, test1, ...
    valid_every: Optional[int] = None  # every n-th line of train is validation
    generator: Optional[str] = None  # what makes the text, where it is not published
    generator_seed: int = 1
    pairs: dict[str, int] = field(default_factory=dict)  # subset -> pairs to generate
    url: Optional[str] = None  # where plain text files are
    checksums: dict[str, str] = field(default_factory=dict)  # unpacked text file -> sha256
    tokenise: bool = True  # no: the text stays as it is
    tokeniser: str = "sacremoses"  # or moses: to the character what the Perl scripts make
    escape: bool = False  # of moses: ' becomes &apos; and so on
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
    data_of: Optional[str] = None  # the recipe whose data this one trains on

    @property
    def exact(self) -> bool:
        """Whether texts are treated to the character as Moses' Perl scripts treat them."""
        return self.tokeniser == "moses"

    @property
    def languages(self) -> tuple[str, str]:
        """Source and target."""
        return self.source, self.target

    def paths(self, folder: str, subset: str) -> list[str]:
        """Return the texts of a subset, source before target, in a folder of the preparation."""
        return [f"{folder}/{subset}.{lang}" for lang in self.languages]

    @property
    def sides(self) -> tuple[tuple[str, str], tuple[str, str]]:
        """Each language with what WMT's files call its side."""
        return (self.source, "src"), (self.target, "ref")

    @property
    def raw_subsets(self) -> list[str]:
        """The subsets that have a text of their own; validation may be split off train."""
        return [*self.subsets, *self.pairs]

    @property
    def final_subsets(self) -> list[str]:
        """The subsets of data-bin, in fairseq's order."""
        tests = [name for name in self.raw_subsets if name.startswith("test")]
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


def _one_of(*known: str) -> Callable[[str], str]:
    def read(text: str) -> str:
        if text not in known:
            raise ValueError
        return text

    return read


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


def _texts(text: str) -> Union[list[Source], _Pairs]:
    generated = re.fullmatch(r"(\d+) pairs", text)
    if generated:
        return _Pairs(positive(generated[1]))
    return [_source(line) for line in lines(text)]


def _source(line: str) -> Source:
    archive: Optional[str]
    archive, colon, members = line.partition(": ")
    if not colon:
        archive, members = None, line
    return Source(archive, tuple(member.strip() for member in members.split(" or ")))


def _valid(text: str) -> Union[list[Source], _Pairs, _Every]:
    split_off = re.fullmatch(r"every (\d+)", text)
    return _Every(positive(split_off[1])) if split_off else _texts(text)


_TEXTS = "[ARCHIVE: ]MEMBER, a line for each source, or N pairs"
_SUBSETS = "subsets, such as train test"
_KEYS = {
    "source": Key(str, "a language code"),
    "target": Key(str, "a language code"),
    "lowercase": Key(yes_or_no, "yes or no"),
    "train": Key(_texts, _TEXTS),
    "valid": Key(_valid, f"every N, or {_TEXTS}"),
    "test": Key(_texts, _TEXTS),
    "merges": Key(positive, "a number of at least 1"),
    "url": Key(str, "an address", required=False),
    "checksums": Key(_checksums, "SHA256 FILE, a line for each", required=False),
    "generator": Key(_one_of("numbers_and_dates"), "numbers_and_dates", required=False),
    "generator_seed": Key(int, "a whole number", required=False),
    "tokenise": Key(yes_or_no, "yes or no", required=False),
    "tokeniser": Key(_one_of("moses", "sacremoses"), "moses or sacremoses", required=False),
    "escape": Key(yes_or_no, "yes or no", required=False),
    "normalise": Key(_names, _SUBSETS, required=False),
    "printable": Key(_names, _SUBSETS, required=False),
    "apostrophes": Key(_names, _SUBSETS, required=False),
    "aggressive": Key(yes_or_no, "yes or no", required=False),
    "filter": Key(_names, _SUBSETS, required=False),
    "filter_on": Key(_one_of("tokens", "bpe"), "tokens or bpe", required=False),
    "length": Key(_length, "SHORTEST-LONGEST", required=False),
    "ratio": Key(amount, "a number", required=False),
    "news_commentary": Key(str, "a version, such as v12", required=False),
    "published_lines": Key(_line_counts, "SUBSET LINES, a line for each", required=False),
    "disk_gb": Key(amount, "gigabytes", required=False),
    "data_of": Key(str, "the name of a recipe", required=False),
    "prepare": Key(str, "anything: only older releases read it", required=False),
}
_OF_TOKENISING = ("lowercase", "normalise", "printable", "apostrophes", "aggressive", "escape")
_LANGUAGES = ("source", "target")  # all that a training needs of the section


def read_section(
    section: Mapping[str, str], whole: bool, languages: bool
) -> tuple[Corpus, list[str]]:
    """Return the :class:`Corpus` of a section, and what is wrong in it.

    Args:
        section: key -> text.
        whole: every key that preparing needs must be given.
        languages: the source and target languages must be given.

    Raises:
        AdminError: if all is wanted, but another recipe makes the data.
    """
    if whole and section.get("data_of"):
        other = section["data_of"]
        raise AdminError(
            f"this recipe trains on the data of {other}: admin-fairseq prepare {other}"
        )
    values: dict[str, Any] = {}
    problems = []
    for name, key in _KEYS.items():
        wanted = (whole and key.required) or (languages and name in _LANGUAGES)
        if wanted and not section.get(name):
            problems.append(f"[data] {name} is missing")
    for name, text in section.items():
        known = "test" if _SUBSET.fullmatch(name) and name not in _KEYS else name
        if known not in _KEYS:
            problems.append(f"[data] {name}: no such key (known: {', '.join(_KEYS)}, test1, ...)")
            continue
        text = text.replace("{news_commentary}", section.get("news_commentary", ""))
        value = read_value(f"[data] {name}", text, _KEYS[known], problems)
        if value is not None:
            values[name] = value
    corpus = _corpus(values)
    return corpus, [*problems, *_contradictions(corpus)]


def _corpus(values: dict[str, Any]) -> Corpus:
    subsets, pairs, valid_every, others = {}, {}, None, {}
    for name, value in values.items():
        if isinstance(value, _Every):
            valid_every = value.lines
        elif isinstance(value, _Pairs):
            pairs[name] = value.count
        elif _SUBSET.fullmatch(name):
            subsets[name] = value
        elif name != "prepare":
            others[name] = value
    return Corpus(subsets=subsets, pairs=pairs, valid_every=valid_every, **others)


def _contradictions(corpus: Corpus) -> list[str]:
    """Return what cannot be meant, though each key by itself can be read."""
    problems = []
    if corpus.generator and corpus.subsets:
        wrong = ", ".join(corpus.subsets)
        problems.append(f"[data] {wrong}: must be N pairs, because a generator makes the text")
    if corpus.generator and sorted(corpus.languages) != ["de", "en"]:
        problems.append(f"[data] {corpus.generator} is en-de or de-en")
    if corpus.data_of and corpus.raw_subsets:
        problems.append(f"[data] data_of: {corpus.data_of} has the texts, so name none here")
    if corpus.pairs and not corpus.generator:
        problems.append(f"[data] {', '.join(corpus.pairs)}: N pairs, but generator is missing")
    if not corpus.tokenise:
        for name in _OF_TOKENISING:
            if getattr(corpus, name):
                problems.append(f"[data] {name}: goes with tokenise = yes only")
        if corpus.exact:
            problems.append("[data] tokeniser: goes with tokenise = yes only")
    elif corpus.escape and not corpus.exact:
        problems.append("[data] escape: goes with tokeniser = moses only")
    return problems
