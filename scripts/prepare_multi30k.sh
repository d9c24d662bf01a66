#!/usr/bin/env bash
# Prepare Multi30k (Elliott et al., 2016; task 1, raw text) English-German for fairseq:
# get, verify, tokenise (sacremoses), lowercase, joint BPE (subword-nmt), binarise.
# Each stage is skipped where its whole output is there already, so a stopped run goes on.
set -euo pipefail

usage() {
    cat <<'EOF'
usage: bash scripts/prepare_multi30k.sh [--from DIR] [--dest DIR] [--merges N]

  --from DIR   take the raw files from DIR (train.en, val.en, test_2016_flickr.en, ...; .gz too)
               instead of downloading them. Multi30k is licensed for research and education.
  --dest DIR   where to work (default: data/multi30k_en-de); the result is DIR/data-bin
  --merges N   joint BPE merges (default: 10000)
EOF
}

fail() {
    echo "prepare_multi30k.sh: error: $*" >&2
    exit 1
}

here=$(cd "$(dirname "$0")" && pwd)
from="" dest=data/multi30k_en-de merges=10000
while [ $# -gt 0 ]; do
    case $1 in
    --from | --dest | --merges)
        [ $# -gt 1 ] || fail "$1 wants a value"
        declare "${1#--}=$2"
        shift 2
        ;;
    -h | --help)
        usage
        exit 0
        ;;
    *)
        usage >&2
        exit 2
        ;;
    esac
done

url=https://raw.githubusercontent.com/multi30k/dataset/master/data/task1/raw
splits="train val test_2016_flickr test_2017_flickr test_2017_mscoco"
# sha256 of the unpacked texts: computed from a copy of the release; the publishers give none
checksums="
460a15fbd157e34a7a9957ee388c1ca247fe47af3ef25fb50442af6c274e0fc6  train.en
2c2b73fd2b548fbcde3a875e0a78d6ee94d498bfdee6bd3eae3945779e9ddf72  train.de
1f2a23d992769b5b3d209b0a10dd0b77c08cceb1f20dfb97ed0aafa49d107227  val.en
660e09eb7e1da2f856ea13ee5ad3cf6d36b3d5b0b733c857e94c5747a3dfc660  val.de
399a4382932c1aadd3ceb9bef1008d388a64c76d4ae4e9d4728c6f4301cac182  test_2016_flickr.en
4be6b5b3236b79c25475c6bb829800a7ce559e9ba7a1f6c2394fe4d40be46d16  test_2016_flickr.de
ce1450ddc5ab0834502579d77a170849952e15a2938b34cc503bdc25ebb4fb98  test_2017_flickr.en
c3078bc3b36808bf9d20eb2347ed6137016179ef59ec0d2b9b8ecc3fb2880081  test_2017_flickr.de
43051fdfa86fd5395182e718a94ca67b1b227b9f7c79596ff0f6b813216981d2  test_2017_mscoco.en
58277df3c75f92f7145a11b910b553d1cf82c439249d4dc237c899609eafac22  test_2017_mscoco.de
"

for tool in python subword-nmt fairseq-preprocess; do
    command -v "$tool" >/dev/null || fail "$tool is not in PATH: pip install '.[recipes]' in the repository"
done
downloader=curl
[ -z "$from" ] || downloader=true
for tool in gzip sha256sum "$downloader"; do
    command -v "$tool" >/dev/null || fail "$tool is not installed"
done
[ -z "$from" ] || [ -d "$from" ] || fail "--from $from: no such folder"
mkdir -p "$dest/raw" "$dest/tok" "$dest/bpe"

get() { # FILE: put the unpacked text into $dest/raw
    local file=$1 target=$dest/raw/$1
    [ -s "$target" ] && return
    if [ -n "$from" ]; then
        if [ -f "$from/$file" ]; then
            cp "$from/$file" "$target.part"
        elif [ -f "$from/$file.gz" ]; then
            gzip -dc "$from/$file.gz" >"$target.part" || fail "$from/$file.gz is damaged"
        else
            fail "--from $from: neither $file nor $file.gz is there"
        fi
    else
        echo "downloading $file"
        curl -fsSL --retry 3 -o "$target.gz.part" "$url/$file.gz" ||
            fail "cannot download $url/$file.gz; with a copy of your own: --from DIR"
        gzip -dc "$target.gz.part" >"$target.part" || fail "$url/$file.gz is damaged; try again"
        rm "$target.gz.part"
    fi
    mv "$target.part" "$target"
}

for split in $splits; do
    get "$split.en"
    get "$split.de"
done
(cd "$dest/raw" && sha256sum --quiet --check - <<<"${checksums:1:-1}") ||
    fail "$dest/raw: the files above differ from Multi30k task 1; remove them and start again"

for split in $splits; do
    for lang in en de; do
        out=$dest/tok/$split.$lang
        [ -s "$out" ] && continue
        echo "tokenising $split.$lang"
        # lowercased, as the published baselines are
        python "$here/moses.py" tokenize "$lang" --lowercase <"$dest/raw/$split.$lang" >"$out.part"
        mv "$out.part" "$out"
    done
done

codes=$dest/bpe/codes.$merges
if [ ! -s "$codes" ]; then
    echo "learning $merges joint BPE merges"
    cat "$dest/tok/train.en" "$dest/tok/train.de" |
        subword-nmt learn-bpe -s "$merges" >"$codes.part" 2>"$codes.log"
    mv "$codes.part" "$codes"
fi
# what is there of another number of merges is made anew
if [ "$(cat "$dest/merges" 2>/dev/null)" != "$merges" ]; then
    rm -rf "$dest/data-bin" "$dest"/bpe/{train,val,test_*}.{en,de}
    echo "$merges" >"$dest/merges"
fi
for split in $splits; do
    for lang in en de; do
        out=$dest/bpe/$split.$lang
        [ -s "$out" ] && [ "$out" -nt "$codes" ] && continue
        subword-nmt apply-bpe -c "$codes" <"$dest/tok/$split.$lang" >"$out.part"
        mv "$out.part" "$out"
    done
done

if [ ! -d "$dest/data-bin" ] || [ "$codes" -nt "$dest/data-bin" ]; then
    rm -rf "$dest/data-bin" "$dest/data-bin.part"
    fairseq-preprocess --source-lang en --target-lang de --joined-dictionary \
        --trainpref "$dest/bpe/train" --validpref "$dest/bpe/val" \
        --testpref "$dest/bpe/test_2016_flickr,$dest/bpe/test_2017_flickr,$dest/bpe/test_2017_mscoco" \
        --destdir "$dest/data-bin.part" --workers 2 >"$dest/preprocess.log" 2>&1 ||
        fail "fairseq-preprocess failed: see $dest/preprocess.log"
    mv "$dest/data-bin.part" "$dest/data-bin"
fi
echo "ready: $dest/data-bin (test = 2016, test1 = 2017, test2 = MSCOCO; $(wc -l <"$dest/data-bin/dict.en.txt") types and fairseq's 4)"
