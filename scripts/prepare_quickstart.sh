#!/usr/bin/env bash
# Makes the quick start's corpus, its BPE and its data-bin: bash scripts/prepare_quickstart.sh DIR
# What is there already is kept. The package and subword-nmt must be in PATH (scripts/setup_env.sh).
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
[ $# -eq 1 ] || { echo "usage: bash scripts/prepare_quickstart.sh DIR" >&2; exit 2; }
dest=$1

fail() {
    echo "prepare_quickstart.sh: error: $*" >&2
    exit 1
}

[ ! -d "$dest/data-bin" ] || exit 0
mkdir -p "$dest"
python "$here/make_corpus.py" "$dest/text"
cat "$dest"/text/train.{en,de} | subword-nmt learn-bpe -s 400 >"$dest/codes" 2>"$dest/preprocess.log" ||
    fail "subword-nmt failed: see $dest/preprocess.log"
for split in train valid test; do
    for lang in en de; do
        subword-nmt apply-bpe -c "$dest/codes" <"$dest/text/$split.$lang" >"$dest/text/$split.bpe.$lang"
    done
done
rm -rf "$dest/data-bin.part"
fairseq-preprocess --source-lang en --target-lang de --joined-dictionary \
    --trainpref "$dest/text/train.bpe" --validpref "$dest/text/valid.bpe" --testpref "$dest/text/test.bpe" \
    --destdir "$dest/data-bin.part" --workers 2 >>"$dest/preprocess.log" 2>&1 ||
    fail "fairseq-preprocess failed: see $dest/preprocess.log"
mv "$dest/data-bin.part" "$dest/data-bin"
