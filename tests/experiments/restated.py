"""The published preparation scripts, written anew: what each of their commands makes of lines.

Text tools, subword-nmt and fairseq are the real ones. The Perl scripts are either restated here
(:class:`Restated`), or run (:class:`Perl`).
"""

import os
import re
import subprocess
import sys
from pathlib import Path

from fairseq.data import Dictionary, data_utils

from admin_fairseq.experiments.corpus import moses
from tests.experiments.corpora import text_of
from tests.experiments.perl import SCRIPTS, perl

SUBWORD_NMT = str(Path(sys.executable).parent / "subword-nmt")
PERLS_SPACES = "[\t-\r \x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000]+"  # its \s
SEGMENTS = r"""grep '<seg id' | sed -e 's/<seg id="[0-9]*">\s*//g' -e 's/\s*<\/seg>\s*//g'"""
STRAIGHT = r"""sed -e "s/’/'/g" """
TALKS = """grep -v '<url>' | grep -v '<talkid>' | grep -v '<keywords>' | sed -e 's/<title>//g' \\
    -e 's/<\\/title>//g' -e 's/<description>//g' -e 's/<\\/description>//g'"""


def lines_of(data):
    assert data.endswith(b"\n")
    return data.decode("utf-8")[:-1].split("\n")


def read(path):
    """The lines of a text: line feeds end them, nothing else."""
    return lines_of(Path(path).read_bytes())


def shell(command, lines):
    """What a command line of text tools makes of lines."""
    run = subprocess.run(
        ["bash", "-c", command],
        input=text_of(lines).encode("utf-8"),
        env={**os.environ, "LC_ALL": "C.UTF-8"},
        stdout=subprocess.PIPE,
        check=True,
    )
    return lines_of(run.stdout)


class Restated:
    """The Perl scripts, as the package and the rule below have them."""

    def normalise(self, lang, lines):
        return [moses.normalize_punctuation(line, lang) for line in lines]

    def printable(self, lines):
        return [moses.remove_non_printing(line) for line in lines]

    def tokens(self, lang, lines, aggressive=False):
        tokenizer = moses.Tokenizer(lang, aggressive)
        return [tokenizer.tokenize(line).replace("\r", "") for line in lines]

    def lower(self, lines):
        return [moses.lowercase(line) for line in lines]

    def clean(self, folder, sides, low, high, ratio=9):
        """clean-corpus-n.perl, rule by rule."""
        kept = ([], [])
        factored = any("|" in side[0] for side in sides)
        for pair in zip(*sides):
            pair = [line if factored else line.replace("|", "") for line in pair]
            pair = [re.sub(r"^ | $", "", re.sub(PERLS_SPACES, " ", line)) for line in pair]
            counts = [len(line.split(" ")) for line in pair]
            too_long = [re.search(r"[^\s|]{1001}", line) for line in pair]
            if "" in pair or any(too_long) or max(counts) > high or min(counts) < low:
                continue
            if counts[0] / counts[1] <= ratio and counts[1] / counts[0] <= ratio:
                for side, line in zip(kept, pair):
                    side.append(line)
        assert 0 < len(kept[0]) < len(sides[0])
        return kept


class Perl(Restated):
    """The Perl scripts themselves."""

    def normalise(self, lang, lines):
        return perl("tokenizer/normalize-punctuation.perl", lang, lines=lines)

    def printable(self, lines):
        return perl("tokenizer/remove-non-printing-char.perl", lines=lines)

    def tokens(self, lang, lines, aggressive=False):
        flags = ["-q", "-threads", "8", "-l", lang] + ["-a"] * aggressive
        made = perl("tokenizer/tokenizer.perl", *flags, lines=lines)
        return [line.replace("\r", "") for line in made]

    def lower(self, lines):
        return perl("tokenizer/lowercase.perl", lines=lines)

    def clean(self, folder, sides, low, high, ratio=9):
        for name, lines in zip("st", sides):
            (folder / f"in.{name}").write_bytes(text_of(lines).encode("utf-8"))
        command = ["perl", SCRIPTS / "training" / "clean-corpus-n.perl", "-ratio", ratio]
        command += [folder / "in", "s", "t", folder / "out", low, high]
        subprocess.run(
            [str(word) for word in command], check=True, stderr=subprocess.DEVNULL, cwd=folder
        )
        return read(folder / "out.s"), read(folder / "out.t")


def every(sides, number):
    """Train and validation of two sides: awk's NR % number."""
    train = [[line for row, line in enumerate(side, 1) if row % number] for side in sides]
    valid = [[line for row, line in enumerate(side, 1) if row % number == 0] for side in sides]
    assert valid[0]
    return train, valid


def applied(codes, lines):
    """What the command subword-nmt makes of the lines."""
    command = [SUBWORD_NMT, "apply-bpe", "-c", str(codes)]
    text = text_of(lines).encode("utf-8")
    return lines_of(subprocess.run(command, input=text, stdout=subprocess.PIPE, check=True).stdout)


def learned(texts, merges):
    command = [SUBWORD_NMT, "learn-bpe", "-s", str(merges)]
    text = "".join(text_of(lines) for lines in texts)
    return subprocess.run(
        command, input=text, capture_output=True, encoding="utf-8", check=True
    ).stdout


def binarised(folder, subset, source, target, lang):
    """The sentences of a data-bin, as text."""
    dictionary = Dictionary.load(str(folder / f"dict.{lang}.txt"))
    data = data_utils.load_indexed_dataset(
        str(folder / f"{subset}.{source}-{target}.{lang}"), dictionary
    )
    return [dictionary.string(data[number], unk_string="<<unk>>") for number in range(len(data))]


def check_bpe(out, source, target, texts, merges):
    """bpe/ line by line against subword-nmt's own command; texts: subset -> lang -> lines."""
    codes = out / "bpe" / f"codes.{merges}"
    assert codes.read_text(encoding="utf-8") == learned(
        [texts["train"][source], texts["train"][target]], merges
    )
    for subset, sides in texts.items():
        for lang, lines in sides.items():
            assert read(out / "bpe" / f"{subset}.{lang}") == applied(codes, lines), (subset, lang)


def check_data_bin(out, source, target, texts):
    for subset, sides in texts.items():
        for lang, lines in sides.items():
            known = set((out / "data-bin" / f"dict.{lang}.txt").read_text(encoding="utf-8").split())
            expected = [
                " ".join(word if word in known else "<<unk>>" for word in line.split())
                for line in lines
            ]
            assert binarised(out / "data-bin", subset, source, target, lang) == expected, (
                subset,
                lang,
            )
    assert (out / "data-bin" / f"dict.{source}.txt").read_bytes() == (
        out / "data-bin" / f"dict.{target}.txt"
    ).read_bytes()
