"""Moses tokenisation over standard input, line by line: ``moses.py {tokenize,detokenize} LANG``.

sacremoses has a command of its own, but whether its ``--xml-escape`` escapes or not depends on the
release of click that is installed.
"""

import argparse
import sys

from sacremoses import MosesDetokenizer, MosesPunctNormalizer, MosesTokenizer


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("action", choices=["tokenize", "detokenize"])
    parser.add_argument("lang", help="language code, such as en")
    parser.add_argument("--lowercase", action="store_true", help="lowercase the tokens")
    args = parser.parse_args()

    if args.action == "tokenize":
        normalizer, tokenizer = MosesPunctNormalizer(args.lang), MosesTokenizer(args.lang)

        def convert(line):
            return tokenizer.tokenize(normalizer.normalize(line), return_str=True, escape=False)

    else:
        detokenizer = MosesDetokenizer(args.lang)

        def convert(line):
            return detokenizer.detokenize(line.split(), unescape=False)

    sys.stdin.reconfigure(encoding="utf-8", newline="\n")
    sys.stdout.reconfigure(encoding="utf-8", newline="\n")
    for line in sys.stdin:
        text = convert(line.rstrip("\n"))
        sys.stdout.write((text.lower() if args.lowercase else text) + "\n")


if __name__ == "__main__":
    main()
