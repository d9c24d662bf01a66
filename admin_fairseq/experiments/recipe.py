"""Recipe files: what an experiment trains, as the papers' tables say it. ``read(path) -> Recipe``.

A recipe is an INI file. Sections: ``[data]`` (the data scripts' own), ``[model]``, ``[training]``, ``[evaluation]``
and ``[published]``. A key may be given for one depth alone: ``tokens-per-update 60-12 = 16 x 5000 x 16``.
"""

import configparser
import math
import re
from dataclasses import dataclass, field
from pathlib import Path

from ..errors import AdminError, raise_all

DEPTH = re.compile(r"[1-9]\d*-[1-9]\d*")


def _words(text):
    return text.split()


def _yes(text):
    return {"yes": True, "no": False}[text]


def _dims(text):
    embed, ffn, heads = (int(word) for word in text.split("/"))
    if min(embed, ffn, heads) < 1:
        raise ValueError
    return embed, ffn, heads


def _depth(text):
    if not DEPTH.fullmatch(text):
        raise ValueError
    return text


def _depths(text):
    return [_depth(word) for word in text.replace(",", " ").split()] or _depth("")


def _positive(text):
    if int(text) < 1:
        raise ValueError
    return int(text)


def _product(text):
    """``4 x 8192 x 2``: processes, tokens, updates that are added up; the product counts."""
    factors = [_positive(word) for word in text.split("x")]
    if not 1 <= len(factors) <= 3:
        raise ValueError
    return factors


def _seeds(text):
    return [int(word) for word in text.split()] or int("")


def _float(text):
    value = float(text)
    if not math.isfinite(value) or value < 0:
        raise ValueError
    return value


# section -> key -> (how it is read, what is wanted, whether it must be there)
KEYS = {
    "model": {
        "arch": (str, "an architecture", True),
        "dims": (_dims, "embedding / ffn / heads, such as 512 / 2048 / 8", True),
        "depths": (_depths, "ENCODER-DECODER, ..., such as 6-6, 18-18", True),
        "dropout": (_float, "a number", True),
        "attention-dropout": (_float, "a number", True),
        "activation-dropout": (_float, "a number", True),
        "xavier-ffn": (_yes, "yes or no", True),
    },
    "training": {
        "optimizer": (str, "an optimizer", True),
        "betas": (lambda text: [_float(word) for word in text.split("/")], "beta1 / beta2", True),
        "lr": (_float, "a number", True),
        "warmup": (_positive, "updates", True),
        "label-smoothing": (_float, "a number", True),
        "weight-decay": (_float, "a number", True),
        "clip-norm": (_float, "a number", True),
        "tokens-per-update": (_product, "PROCESSES x TOKENS [x UPDATE-FREQ]", True),
        "epochs": (_positive, "a number of epochs", False),
        "updates": (_positive, "a number of updates", False),
        "seeds": (_seeds, "numbers", True),
        "profile-seed": (int, "a number", True),
        "no-warmup-lr": (_words, "learning rates", False),
        "no-warmup-beta2": (_words, "values of beta2", False),
        "no-warmup-updates": (_positive, "updates", False),
    },
    "evaluation": {
        "average": (_positive, "how many of the last epochs", True),
        "beam": (_positive, "a number", True),
        "lenpen": (_float, "a number", True),
        "compound-splitting": (_yes, "yes or no", True),
    },
}


@dataclass
class Recipe:
    """What a recipe file says. ``get("training", "lr", depth)``: the value for a depth, or for all, or None."""

    name: str
    path: Path
    source: str
    target: str
    lowercase: bool
    values: dict = field(default_factory=dict)

    def get(self, section, key, depth=None):
        for at in ((section, key, depth), (section, key, None)):
            if at in self.values:
                return self.values[at]
        return None

    @property
    def depths(self):
        return self.get("model", "depths")


def read(path):
    """Return the :class:`Recipe` of a file.

    Raises:
        AdminError: naming every key that is missing, unknown or unreadable.
    """
    path = Path(path)
    parser = configparser.ConfigParser(
        delimiters=("=",),
        comment_prefixes=("#",),
        inline_comment_prefixes=("#",),
        interpolation=None,
    )
    try:
        with open(path, encoding="utf-8") as file:
            parser.read_file(file)
    except (OSError, UnicodeDecodeError) as error:
        raise AdminError(f"{path}: cannot be read as a recipe: {error}") from None
    except configparser.Error as error:
        raise AdminError(f"{path}: not a recipe: {error.message}") from None
    values, problems = _values(parser)
    data = parser["data"] if parser.has_section("data") else {}
    problems += [f"[data] {key} is missing" for key in ("source", "target") if not data.get(key)]
    if data.get("lowercase", "no") not in ("yes", "no"):
        problems.append(f"[data] lowercase = {data['lowercase']}: wanted is yes or no")
    if ("training", "epochs", None) not in values and ("training", "updates", None) not in values:
        problems.append("[training] neither epochs nor updates: the training would not end")
    raise_all(f"{path} is not a whole recipe:", problems)
    return Recipe(
        path.stem,
        path,
        data["source"],
        data["target"],
        data.get("lowercase", "no") == "yes",
        values,
    )


def _values(parser):
    """Return {(section, key, depth or None): value}, and what is wrong."""
    values, problems = {}, []
    for section, keys in KEYS.items():
        found = parser[section] if parser.has_section(section) else {}
        for name, text in found.items():
            key, _, depth = name.partition(" ")
            if key not in keys or (depth and not DEPTH.fullmatch(depth)):
                problems.append(
                    f"[{section}] {name}: no such key (known: {', '.join(keys)}; KEY DEPTH for one depth)"
                )
                continue
            try:
                values[section, key, depth or None] = keys[key][0](text)
            except (ValueError, KeyError):
                problems.append(f"[{section}] {name} = {text}: wanted is {keys[key][1]}")
        problems += [
            f"[{section}] {key} is missing"
            for key, (_, _, must) in keys.items()
            if must and not found.get(key)
        ]
    return values, problems
