#!/usr/bin/env bash
# Draws the papers' figures on a CPU, from nothing: what models depend on at the start and when trained, how far
# their output moves when weights do, where gradients vanish, how omega moves, and who trains. Two processes at a
# time, about ten minutes on two cores. Stopped in between, it goes on where it was.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)

usage() {
    cat <<'EOF'
usage: bash scripts/reproduce_figures.sh [--dest DIR] [--quick]

  --dest DIR   where everything goes (default: runs/figures in the repository)
  --quick      fewer depths, seeds and updates: to see whether it runs, not to read anything from

Environment: PYTHON, the interpreter to use (3.11 to 3.14); VENV, the virtual environment (default: .venv).
EOF
}

dest="" quick=false
while [ $# -gt 0 ]; do
    case $1 in
    --dest)
        [ $# -gt 1 ] || { echo "reproduce_figures.sh: error: $1 needs a value" >&2; exit 2; }
        dest=$2
        shift 2
        ;;
    --quick) quick=true; shift ;;
    -h | --help) usage; exit 0 ;;
    *) usage >&2; exit 2 ;;
    esac
done

fail() {
    echo "reproduce_figures.sh: error: $*" >&2
    exit 1
}

# macOS has an older bash, without wait -n, and another sed
if [ "$(uname -s)" != Linux ] || ((BASH_VERSINFO[0] * 100 + BASH_VERSINFO[1] < 403)); then
    fail "needs Linux, with bash 4.3 or later. Elsewhere run its parts: admin-fairseq sweep figures, admin-fairseq analyze"
fi
# shellcheck source=setup_env.sh
source "$here/setup_env.sh"
setup_env recipes
started=$SECONDS
dest=${dest:-$here/../runs/figures}
mkdir -p "$dest"
dest=$(cd "$dest" && pwd)
export OMP_NUM_THREADS=1 # two processes, one core each

say() {
    printf '[%2d:%02d] %s\n' $(((SECONDS - started) / 60)) $(((SECONDS - started) % 60)) "$*"
}

exec 9>"$dest/lock"
command -v flock >/dev/null || fail "there is no flock here (on Debian and Ubuntu: apt install util-linux)"
flock -n 9 || fail "$dest is in use by another run"

data=$dest/corpus/data-bin
depths="1 2 3 6 12 24 48 100" seeds=5 length=()
if $quick; then
    depths="1 2 4" seeds=1 length=(--updates 20)
fi
# the papers start feed-forward weights as fairseq 0.9 did
model="--arch admin_transformer --share-all-embeddings --xavier-ffn --cpu --seed 1"
small="$model --encoder-embed-dim 64 --encoder-ffn-embed-dim 128 --encoder-attention-heads 4 --decoder-attention-heads 4"
iwslt="$model --arch admin_transformer_iwslt_de_en"
deep="--encoder-layers 18 --decoder-layers 18"

sweep() { # DEPTH FLAGS...: the trainings of the recipe at a depth; their folders go into trained-DEPTH.tsv
    local depth=$1
    shift
    admin-fairseq sweep figures --layers "$depth" --cpu --processes 1 --jobs 2 ${length[@]+"${length[@]}"} \
        --data "$dest/corpus" --dest "$dest/runs" "$@" >"$dest/trained-$depth.tsv" 9>&- ||
        fail "a training failed: see above"
    say "trained $depth"
}

folder() { # METHOD DEPTH: of its training
    sed -n "s|^\(.*/$1-$2-seed1[^/]*\)\t.*|\1|p" "$dest/trained-$2.tsv"
}

analyze() { # NAME KIND WORDS...: unless its results are there
    local name=$1 kind=$2
    shift 2
    [ ! -f "$dest/$name.json" ] || return 0
    # a half-written set has no .json: it is written last
    admin-fairseq analyze "$kind" "$@" --out "$dest/$name" >"$dest/$name.txt" 2>"$dest/$name.log"
    say "$name"
}

# each line is one analysis
# shellcheck disable=SC2086
job() {
    case $1 in
    output-change)
        analyze output-change output-change "$data" $small --max-tokens 256 --depths $depths --seeds $seeds
        ;;
    dependency-start)
        analyze $1 dependency "$data" $iwslt --max-tokens 1024 --models post-ln pre-ln admin
        ;;
    dependency-deep)
        analyze $1 dependency "$data" $small $deep --max-tokens 1024 --models post-ln pre-ln admin deepnet
        ;;
    gradients) analyze $1 gradients "$data" $small $deep --models post-ln pre-ln admin deepnet ;;
    stability) analyze $1 stability "$data" $small $deep --init-type default ;;
    dependency-trained)
        analyze $1 dependency "$data" $small --max-tokens 1024 --models \
            "post-ln at its start=post-ln" "post-ln trained=$(folder default 6-6)/checkpoint_last.pt" \
            "pre-ln at its start=pre-ln" "pre-ln trained=$(folder pre-ln 6-6)/checkpoint_last.pt" \
            "admin at its start=admin" "admin trained=$(folder adaptive 6-6)/checkpoint_last.pt"
        ;;
    trace) analyze trace trace "$(folder adaptive 18-18)/train.log" ;;
    esac
}

run_all() { # JOB...: two at a time
    local name running=0
    for name in "$@" ""; do
        while [ $running -ge 2 ] || { [ -z "$name" ] && [ $running -gt 0 ]; }; do
            wait -n || exit 1
            running=$((running - 1))
        done
        [ -n "$name" ] || break
        {
            trap '[ $? = 0 ] || echo "reproduce_figures.sh: error: $name failed: see $dest/$name.log" >&2' EXIT
            job "$name" 9>&-
        } &
        running=$((running + 1))
    done
}

if [ ! -d "$data" ]; then
    admin-fairseq prepare quickstart --dest "$dest/corpus" >"$dest/corpus.log" 2>&1 9>&- ||
        fail "the corpus could not be made: see $dest/corpus.log"
    say "corpus"
fi
sweep 18-18 --init-types admin post-ln -- --trace-interval 20
sweep 6-6 --init-types admin post-ln pre-ln
run_all output-change dependency-trained dependency-start dependency-deep gradients stability trace
admin-fairseq curves --out "$dest/curves.png" \
    Admin="$(folder adaptive 18-18)" Post-LN="$(folder default 18-18)" 2>"$dest/curves.log"
say "done: figures (.png, .pdf), numbers (.tsv, .json) and summaries (.txt) are in $dest"
