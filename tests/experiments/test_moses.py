"""Lines as the Perl scripts of Moses treat them.

golden/moses.jsonl has made-up lines with what the scripts made of them: mosesdecoder's master at
75d4c67 under Perl 5.36 (Unicode 14), whole files through normalize-punctuation.perl LANG
(normalised), remove-non-printing-char.perl after it (printable), tokenizer.perl -q -l LANG
(tokens), with -no-escape (unescaped), with -a (aggressive), with -a on printable (prepared), and
lowercase.perl on tokens (lowercased).
"""

import json
import random

import pytest

from admin_fairseq.experiments.corpus import moses
from admin_fairseq.experiments.corpus.text import Tokenising, tokenise
from tests.experiments.perl import needed, perl
from tests.helpers import REPOSITORY

LINES = [
    json.loads(line)
    for line in (REPOSITORY / "tests" / "golden" / "moses.jsonl").read_text().split("\n")[:-1]
]
SHARED = REPOSITORY.parent / "shared" / "moses" / "lines.jsonl"
PIECES = (
    "a b The art. Dr. No. z.B. p.m. 5 3. 1,000 , . .. ... ' '' \" “ ” „ ‘ ’ ` – — - « » ( ) [ ] < "
    "> & | % $ @ / : ; ? ! ² Ⅳ º ä É İ Σ क्षि 中文 ٣ 😀 𝒜 Ⓐ x's n'x 5's l’é d’a ’90s .\" .' .) ,\" "
    "a-b-c x-ä-5 @-@ &amp; DOTMULTI \xa0 \xa0% \xa0: 5\xa0000 «\xa0 \xa0» ,\xa0 \u2028 \x85 \u200b "
    "\xad \t \r \x01 \x1c \x7f"
).split(" ")


@pytest.mark.parametrize("line", LINES, ids=lambda line: f"{line['lang']} {line['source'][:20]!a}")
def test_recorded_lines(line):
    lang, source = line["lang"], line["source"]
    normalised = moses.normalize_punctuation(source, lang)
    assert normalised == line["normalised"]
    assert moses.remove_non_printing(normalised) == line["printable"]
    tokens = moses.Tokenizer(lang).tokenize(source)
    assert tokens == line["tokens"]
    assert moses.Tokenizer(lang, escape=False).tokenize(source) == line["unescaped"]
    assert moses.Tokenizer(lang, aggressive=True).tokenize(source) == line["aggressive"]
    assert moses.Tokenizer(lang, aggressive=True).tokenize(line["printable"]) == line["prepared"]
    assert moses.lowercase(tokens) == line["lowercased"]


@pytest.mark.skipif(not SHARED.exists(), reason="needs lines.jsonl beside the clone")
def test_shared_lines():
    for text in SHARED.read_text(encoding="utf-8").splitlines():
        line = json.loads(text)
        lang, source = line["lang"], line["source"]
        printable = moses.remove_non_printing(moses.normalize_punctuation(source, lang))
        made = {
            "tokenizer": moses.Tokenizer(lang, escape=False).tokenize(source),
            "tokenizer_escaped": moses.Tokenizer(lang).tokenize(source),
            "normalised_printable_aggressive": moses.Tokenizer(lang, True, False).tokenize(
                printable
            ),
        }
        assert made == {name: line[name] for name in made}


def test_what_the_stage_makes_of_a_line():
    """The steps in the scripts' order, each where the recipe asks for it."""

    def made(line, lang="en", **steps):
        return tokenise(Tokenising(lang, tokeniser="moses", **steps), line)

    assert made("Don’t wait, A-b.") == "Don ’ t wait , A-b ."
    assert made("Don’t wait, A-b.", apostrophes=True) == "Don 't wait , A-b ."
    assert made("Don’t wait, A-b.", apostrophes=True, escape=True) == "Don &apos;t wait , A-b ."
    assert made("Don’t \xad1", normalise=True, lowercase=True) == "don 't \xad 1"
    assert made("Don’t \xad1", normalise=True, printable=True, aggressive=True) == "Don 't 1"
    assert made(" \r ") == "  ", "fairseq would take a return for the end of a line"
    assert made("a\rb", normalise=True) == "ab" and made("a\rb") == "a b"


@needed
@pytest.mark.subprocess
@pytest.mark.parametrize("lang", ["en", "de", "fr", "cs"])
def test_random_lines_against_perl(lang):
    rng = random.Random(lang)
    lines = []
    for _ in range(3000):
        pieces = []
        for _ in range(rng.randint(0, 12)):
            pieces += [rng.choice(PIECES), rng.choice(["", " "])]
        line = "".join(pieces)
        if "DOTMULTI." not in line:  # see the module's first lines
            lines.append(line)
    normalised = perl("tokenizer/normalize-punctuation.perl", lang, lines=lines)
    printable = perl("tokenizer/remove-non-printing-char.perl", lines=normalised)
    for number, line in enumerate(lines):
        assert moses.normalize_punctuation(line, lang) == normalised[number], line
        assert moses.remove_non_printing(normalised[number]) == printable[number], line
    lower = perl("tokenizer/lowercase.perl", lines=lines)
    assert [moses.lowercase(line) for line in lines] == lower
    for aggressive in (False, True):
        for escape in (False, True):
            tokenizer = moses.Tokenizer(lang, aggressive, escape)
            flags = ["-q", "-l", lang] + ["-a"] * aggressive + ["-no-escape"] * (not escape)
            for text in (lines, printable):
                made = perl("tokenizer/tokenizer.perl", *flags, lines=text)
                assert [tokenizer.tokenize(line) for line in text] == made, flags
