"""Compare the package's Moses with the Perl scripts, on a text of the user's.

python scripts/compare_with_perl.py --moses mosesdecoder/scripts --lang de --text FILE
"""

import argparse
import subprocess
from pathlib import Path

from admin_fairseq.experiments.corpus import moses


def perl(script, *words, lines):
    text = "".join(line + "\n" for line in lines).encode("utf-8")
    run = subprocess.run(
        ["perl", str(script), *words], input=text, stdout=subprocess.PIPE, check=True
    )
    return run.stdout.decode("utf-8")[:-1].split("\n")


def tell(name, lines, ours, theirs, show):
    differ = [number for number, line in enumerate(theirs) if ours[number] != line]
    print(f"{name}: {len(differ)} of {len(lines)} lines differ")
    for number in differ[:show]:
        print(f"  {lines[number]!r}\n    perl {theirs[number]!r}\n    ours {ours[number]!r}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--moses", type=Path, required=True, help="mosesdecoder/scripts")
    parser.add_argument("--lang", required=True)
    parser.add_argument("--text", type=Path, required=True, help="a sentence a line")
    parser.add_argument("--show", type=int, default=5, help="lines that differ")
    args = parser.parse_args()
    folder, lang = args.moses / "tokenizer", args.lang
    lines = args.text.read_bytes().decode("utf-8").removesuffix("\n").split("\n")
    normalised = perl(folder / "normalize-punctuation.perl", lang, lines=lines)
    ours = [moses.normalize_punctuation(line, lang) for line in lines]
    tell("normalize-punctuation", lines, ours, normalised, args.show)
    printable = perl(folder / "remove-non-printing-char.perl", lines=normalised)
    ours = [moses.remove_non_printing(line) for line in normalised]
    tell("remove-non-printing-char", normalised, ours, printable, args.show)
    lower = perl(folder / "lowercase.perl", lines=lines)
    tell("lowercase", lines, [moses.lowercase(line) for line in lines], lower, args.show)
    for aggressive in (False, True):
        for escape in (False, True):
            flags = ["-l", lang] + ["-a"] * aggressive + ["-no-escape"] * (not escape)
            tokenizer = moses.Tokenizer(lang, aggressive, escape)
            for kind, text in (("as it is", lines), ("normalised, printable", printable)):
                theirs = perl(folder / "tokenizer.perl", "-q", *flags, lines=text)
                ours = [tokenizer.tokenize(line) for line in text]
                tell(f"tokenizer {' '.join(flags)}, text {kind}", text, ours, theirs, args.show)


if __name__ == "__main__":
    main()
