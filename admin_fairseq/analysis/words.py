"""The words of ``--models``: methods at their first step, checkpoints, and pairs of these."""

from __future__ import annotations

import os
from collections.abc import Sequence

from ..errors import AdminError, raise_all
from ..init_types import METHODS, Method, find_method

# what results call two methods, as the papers do; the others go by their names
_IN_RESULTS = {"default": "post-ln", "adaptive": "admin"}


def method_word(method: Method) -> str:
    """Return what .tsv and .json files call a method."""
    return _IN_RESULTS.get(method.name, method.name.replace("_", "-"))


def method_words() -> list[str]:
    """Return every method with its other words, such as ``post-ln or default``."""
    found = []
    for method in METHODS:
        words = [method_word(method)]
        for word in (method.name, *method.aliases):
            if word not in words:
                words.append(word)
        found.append(" or ".join(words))
    return found


def is_method(word: str) -> bool:
    """Whether a word is the name or an alias of a method."""
    try:
        find_method(word)
    except AdminError:
        return False
    return True


def parse_models(words: Sequence[str]) -> dict[str, str]:
    """Return ``{label: word}`` of the words of ``--models``.

    ``LABEL=WORD`` has its label; a checkpoint is called after the end of its path.

    Raises:
        AdminError: if two labels are the same.
    """
    found: dict[str, str] = {}
    problems = []
    for given in words:
        label, equals, word = given.partition("=")
        # a path may hold an equals sign
        if not equals or os.path.exists(given):
            label, word = _label(given, words), given
        elif not label or not word:
            problems.append(f"{given}: LABEL=WORD has both")
        if label in found:
            problems.append(f"{label}: twice; tell them apart with LABEL=WORD")
        found[label] = word
    raise_all("--models:", problems)
    return found


def parse_pairs(words: Sequence[str]) -> dict[str, tuple[str, str]]:
    """Return ``{label: (before, after)}`` of the words ``LABEL=BEFORE,AFTER``.

    Paths may hold commas: a word is split at the one that has a file on both sides.

    Raises:
        AdminError: listing every word that does not name two checkpoints, and labels that are the
            same.
    """
    found: dict[str, tuple[str, str]] = {}
    problems = []
    for given in words:
        label, equals, paths = given.partition("=")
        splits = [(paths[:i], paths[i + 1 :]) for i, sign in enumerate(paths) if sign == ","]
        pairs = [pair for pair in splits if all(map(os.path.exists, pair))]
        if not label or not equals:
            problems.append(f"{given}: has no label; it must be LABEL=BEFORE,AFTER")
        elif label in found:
            problems.append(f"{label}: twice")
        elif len(pairs) != 1:
            problems.append(f"{given}: {_why_no_pair(paths, splits, pairs)}")
        elif os.path.samefile(*pairs[0]):
            problems.append(f"{given}: both are one file")
        else:
            found[label] = pairs[0]
    raise_all("--models:", problems)
    return found


def _why_no_pair(
    paths: str, splits: Sequence[tuple[str, str]], pairs: Sequence[tuple[str, str]]
) -> str:
    """Return what keeps a word from naming two checkpoints.

    Args:
        paths: what stands after the equals sign.
        splits: it, split at every comma.
        pairs: those whose both sides exist.
    """
    if pairs:
        return "several of its commas have a file on both sides; use paths with fewer"
    methods = [word for word in paths.split(",") if is_method(word)]
    if methods:
        return f"{methods[0]} is a method; an update is between two checkpoints, BEFORE,AFTER"
    if not splits:
        return "it must be LABEL=BEFORE,AFTER, with a comma between two checkpoints"
    if len(splits) == 1:
        missing = [path or "''" for path in splits[0] if not os.path.exists(path)]
        return f"no such checkpoint: {' and '.join(missing)}"
    return "none of its commas has a file on both sides"


def _label(word: str, words: Sequence[str]) -> str:
    """Return a method's word, or as much of a checkpoint's path as tells it apart."""
    if is_method(word):
        return word
    folder, name = os.path.split(os.path.abspath(word))
    short = os.path.join(os.path.basename(folder), name)
    alike = [other for other in words if other.endswith(short)]
    return short if len(alike) == 1 else word
