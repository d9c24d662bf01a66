"""The words of ``--models``: methods at their first step, and checkpoints."""

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


def _label(word: str, words: Sequence[str]) -> str:
    """Return a method's word, or as much of a checkpoint's path as tells it apart."""
    if is_method(word):
        return word
    folder, name = os.path.split(os.path.abspath(word))
    short = os.path.join(os.path.basename(folder), name)
    alike = [other for other in words if other.endswith(short)]
    return short if len(alike) == 1 else word
