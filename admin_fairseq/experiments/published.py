"""The papers' numbers, from the ``[published]`` section of a recipe file."""

import configparser
import logging
import re
from dataclasses import dataclass
from pathlib import Path

from ..errors import raise_all

logger = logging.getLogger(__name__)
VALUE = re.compile(r"(?P<number>\d+(\.\d+)?( ± \d+(\.\d+)?)?|failed), (?P<source>\S.*)")
KEY = re.compile(r"[\w-]+ \d+-\d+")


@dataclass
class Published:
    """One number as it was printed, such as ``35.64 ± 0.23`` or ``failed``, and its source."""

    number: str
    source: str


def read(path):
    """Return (init type, depth) -> :class:`Published` of a recipe file; empty, with a warning, if there is no file.

    Raises:
        AdminError: naming every line of ``[published]`` that cannot be read.
    """
    parser = configparser.ConfigParser(
        delimiters=("=",), inline_comment_prefixes=("#",), interpolation=None
    )
    found, problems = {}, []
    if not Path(path).is_file():
        logger.warning("%s: no such recipe: the published columns of its table stay empty", path)
        return found
    try:
        parser.read(path, encoding="utf-8")
    except (configparser.Error, UnicodeDecodeError) as error:
        problems.append(str(error))
    for key, text in parser["published"].items() if parser.has_section("published") else ():
        match = VALUE.fullmatch(text)
        if key == "measure":
            continue
        if not match or not KEY.fullmatch(key):
            problems.append(
                f"[published] {key} = {text}: wanted is INIT-TYPE DEPTH = NUMBER [± SD] or failed, SOURCE"
            )
        else:
            found[tuple(key.split())] = Published(match["number"], match["source"])
    raise_all(f"{path} cannot be read:", problems)
    return found
