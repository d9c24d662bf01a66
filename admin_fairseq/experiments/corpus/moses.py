"""What the Perl scripts of the Moses decoder make of a line, to the character.

The papers' corpora went through them (github.com/moses-smt/mosesdecoder, scripts/tokenizer, as of
2018 and later). No package makes the same of every line, so their rules are written down here; the
lists of abbreviations are sacremoses'. A function has the name of a script. Lines come and go
without their line feed; the scripts read whole files, so a rule may see it where it matters.

Two things differ. Unicode's properties are those of the ``regex`` package, Perl's those of its own
version: characters that a newer Unicode added, and 38 combining letters that it made alphabetic.
And a line with the very word DOTMULTI before a full stop, which is the script's mark for dots.
"""

import functools
import re
import unicodedata
from collections.abc import Mapping

import regex
from sacremoses.corpus import NonbreakingPrefixes

# Perl's \s, in a class of characters: Python's has the four separators \x1c to \x1f as well
SPACE = "\t-\r \x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000"
_BLANK = re.compile(f"[{SPACE}]*")
_SPACES = re.compile(f"[{SPACE}]+")
_CONTROLS = re.compile("[\x00-\x1f]")
_SEVERAL = re.compile(" {2,}")

# --- normalize-punctuation.perl: it reads bytes, so digits, letters and spaces are ASCII's

_CLOSED = re.compile(r"\) ([.!:?;,])")
_PER_CENT = re.compile(r"(\d) %", re.ASCII)
_ELISION = (re.compile("([a-zA-Z])\u2018([a-zA-Z])"), re.compile("([a-zA-Z])\u2019([a-zA-Z])"))
_PLAIN_QUOTES = (("\u201e", '"'), ("\u201c", '"'), ("\u201d", '"'), ("\u2013", "-"))
_PLAIN_APOSTROPHES = (
    ("\u2018", "'"),
    ("\u201a", "'"),
    ("\u2019", '"'),  # a right quote that is no apostrophe between letters
    ("''", '"'),
    ("\u2026", "..."),
)
_GUILLEMETS = (
    ("\xa0\xab\xa0", ' "'),
    ("\xab\xa0", '"'),
    ("\xab", '"'),
    ("\xa0\xbb\xa0", '" '),
    ("\xa0\xbb", '"'),
    ("\xbb", '"'),
)
_PSEUDO_SPACES = (
    ("\xa0%", "%"),
    ("n\xba\xa0", "n\xba "),
    ("\xa0:", ":"),
    ("\xa0\xbaC", " \xbaC"),
    ("\xa0cm", " cm"),
    ("\xa0?", "?"),
    ("\xa0!", "!"),
    ("\xa0;", ";"),
    (",\xa0", ", "),
)
_QUOTE_STOP = re.compile(r'"([,.]+)')
_STOP_QUOTE = re.compile(r'(\.+)"(\s*[^<])', re.ASCII)
_NUMBERS = re.compile("(\\d)\xa0(\\d)", re.ASCII)
_DECIMAL_COMMA = ("de", "es", "cz", "cs", "fr")


def normalize_punctuation(line: str, lang: str) -> str:
    """Return a line with the quotes, dashes and spaces of ``normalize-punctuation.perl LANG``."""
    line = line.replace("\r", "") + "\n"
    line = _single_spaced(line.replace("(", " (").replace(")", ") "))
    line = _CLOSED.sub(r")\1", line).replace("( ", "(").replace(" )", ")")
    line = _PER_CENT.sub(r"\1%", line).replace(" :", ":").replace(" ;", ";")
    line = line.replace("`", "'").replace("''", ' " ')
    line = _single_spaced(line) if line.isascii() else _plain(line)
    if lang == "en":
        line = _QUOTE_STOP.sub(r'\1"', line)
    elif lang not in ("cs", "cz"):
        line = line.replace(',"', '",')
        line = _STOP_QUOTE.sub(r'"\1\2', line)
    if "\xa0" in line:
        line = _NUMBERS.sub(r"\1,\2" if lang in _DECIMAL_COMMA else r"\1.\2", line)
    return line[:-1]


def _plain(line: str) -> str:
    """Return a line with ASCII for typographic quotes, dashes, dots and no-break spaces."""
    for special, plain in _PLAIN_QUOTES:
        line = line.replace(special, plain)
    line = _single_spaced(line.replace("\u2014", " - ")).replace("\xb4", "'")
    for between_letters in _ELISION:
        line = between_letters.sub(r"\1'\2", line)
    for table in (_PLAIN_APOSTROPHES, _GUILLEMETS, _PSEUDO_SPACES):
        for special, plain in table:
            line = line.replace(special, plain)
    return _single_spaced(line)


def _single_spaced(line: str) -> str:
    return _SEVERAL.sub(" ", line) if "  " in line else line


# --- remove-non-printing-char.perl


def remove_non_printing(line: str) -> str:
    """Return a line with each control, format, private or unassigned character as a space."""
    if line.isprintable():
        return line
    letters = []
    for letter in line:
        letters.append(" " if unicodedata.category(letter).startswith("C") else letter)
    return "".join(letters)


# --- lowercase.perl


def lowercase(line: str) -> str:
    """Return a line in lower case; a capital sigma at a word's end becomes no final one."""
    return line.replace("\u03a3", "\u03c3").lower()


# --- tokenizer.perl

_KEPT_IN_WORDS = {"fi": ":", "sv": ":", "ca": "\xb7"}
_NOT_BEFORE_LOWER = {"fi": ":", "sv": ":", "tdt": "'"}
_HYPHEN = regex.compile(r"(?<=\p{Alnum})-(?=\p{Alnum})")
_DOTS = re.compile(r"\.(\.+)")
_MARKED_DOTS = re.compile(r"DOTMULTI(\.+)(?=(.?))", re.DOTALL)
_DOT_MARKS = re.compile("((?:DOT)+)MULTI")
_COMMAS = (
    (regex.compile(r"([^\p{N}]),"), r"\1 , "),
    (regex.compile(r",([^\p{N}])"), r" , \1"),
    (regex.compile(r"(\p{N}),\Z"), r"\1 ,"),
)
_LETTER = regex.compile(r"\p{Alphabetic}")
_LOWER_START = regex.compile(r"\p{Lowercase}")
_DIGIT_START = re.compile("[0-9]")
_FINAL_APOSTROPHE = re.compile(r"\.' ?\Z")
_ESCAPES = (
    ("&", "&amp;"),
    ("|", "&#124;"),
    ("<", "&lt;"),
    (">", "&gt;"),
    ("'", "&apos;"),
    ('"', "&quot;"),
    ("[", "&#91;"),
    ("]", "&#93;"),
)
_APART = (regex.compile(r"(\P{Alphabetic})'(\P{Alphabetic})"), r"\1 ' \2")
_BEFORE_LETTER = (regex.compile(r"(\P{Alphabetic})'(\p{Alphabetic})"), r"\1 ' \2")
_AFTER_LETTER = (regex.compile(r"(\p{Alphabetic})'(\P{Alphabetic})"), r"\1 ' \2")
_BETWEEN = regex.compile(r"(\p{Alphabetic})'(\p{Alphabetic})")
_ENGLISH = (
    _APART,
    (regex.compile(r"([^\p{Alphabetic}\p{N}])'(\p{Alphabetic})"), r"\1 ' \2"),
    _AFTER_LETTER,
    (_BETWEEN, r"\1 '\2"),
    (regex.compile(r"(\p{N})'(s)"), r"\1 '\2"),  # 1990's
)
_ROMANCE = (_APART, _BEFORE_LETTER, _AFTER_LETTER, (_BETWEEN, r"\1' \2"))
_GLOTTAL = (_APART, _BEFORE_LETTER, _AFTER_LETTER)
_APOSTROPHES = {
    "en": _ENGLISH,
    **dict.fromkeys(("fr", "it", "ga", "ca"), _ROMANCE),
    **dict.fromkeys(("so", "tdt"), _GLOTTAL),
}


class Tokenizer:
    """``tokenizer.perl -l LANG``, with ``-a`` if aggressive and ``-no-escape`` unless escaped."""

    def __init__(self, lang: str, aggressive: bool = False, escape: bool = True) -> None:
        self._aggressive = aggressive
        self._escape = escape
        self._prefixes = _prefixes(lang)
        kept = _KEPT_IN_WORDS.get(lang, "")
        self._special = regex.compile(rf"([^\p{{Alnum}} .'`,\-{kept}])")
        self._colon = None
        if lang in _NOT_BEFORE_LOWER:
            self._colon = regex.compile(rf"({_NOT_BEFORE_LOWER[lang]})(?=\Z|\P{{Ll}})")
        self._apostrophes = _APOSTROPHES.get(lang)

    def tokenize(self, line: str) -> str:
        """Return a line's tokens with spaces between them; a blank line comes back as it is."""
        if _BLANK.fullmatch(line):
            return line
        text = self._separated(line)
        if ".." in text:
            text = _DOTS.sub(r" DOTMULTI\1", text)
            text = _MARKED_DOTS.sub(_dot_marks, text)
        if "," in text:
            for pattern, replacement in _COMMAS:
                text = pattern.sub(replacement, text)
        if "'" in text:
            text = self._with_apostrophes(text)
        text = _single_spaced(self._with_full_stops(text))
        text = text.removeprefix(" ").removesuffix(" ")
        text = _FINAL_APOSTROPHE.sub(" . ' ", text)
        if "DOTMULTI" in text:
            text = _DOT_MARKS.sub(_dots, text)
        if self._escape:
            for special, entity in _ESCAPES:
                text = text.replace(special, entity)
        return text

    def _separated(self, line: str) -> str:
        """Return a line single-spaced, with spaces around what belongs to no word."""
        text = line
        if not line.isprintable():
            text = _CONTROLS.sub("", _SPACES.sub(" ", line))
        text = _single_spaced(text).removeprefix(" ").removesuffix(" ")
        text = self._special.sub(r" \1 ", text)
        if self._colon:
            text = self._colon.sub(r" \1 ", text)
        if self._aggressive and "-" in text:
            text = _HYPHEN.sub(" @-@ ", text)
        return text

    def _with_apostrophes(self, text: str) -> str:
        if self._apostrophes is None:
            return text.replace("'", " ' ")
        for pattern, replacement in self._apostrophes:
            text = pattern.sub(replacement, text)
        return text

    def _with_full_stops(self, text: str) -> str:
        """Return text with the full stops split off that end no abbreviation."""
        words = text.rstrip(" ").split(" ")
        last = len(words) - 1
        for number, word in enumerate(words):
            if not word.endswith(".") or word == ".":
                continue
            # since 2018 the last word's full stop is split off whatever the word
            if number == last or not self._keeps_stop(word[:-1], words[number + 1]):
                words[number] = word[:-1] + " ."
        return " ".join(words) + " "

    def _keeps_stop(self, word: str, following: str) -> bool:
        """Whether a full stop belongs to the word before it."""
        if "." in word and _LETTER.search(word):
            return True
        numeric_only = self._prefixes.get(word)
        if numeric_only is False or _LOWER_START.match(following):
            return True
        return bool(numeric_only and _DIGIT_START.match(following))


def _dot_marks(found: "re.Match[str]") -> str:
    """Return what stands for several dots while full stops are looked at."""
    space = " " if found[2] else ""
    return "DOT" * len(found[1]) + "DOTMULTI" + space


def _dots(found: "re.Match[str]") -> str:
    return "." * (len(found[1]) // len("DOT"))


@functools.cache
def _prefixes(lang: str) -> Mapping[str, bool]:
    """Return a language's abbreviations -> whether they are so before a number only."""
    found = {}
    for line in NonbreakingPrefixes().words(lang):
        word, marker, _ = line.rpartition("#NUMERIC_ONLY#")
        if marker:
            found[word.rstrip()] = True
        else:
            found[line] = False
    return found
