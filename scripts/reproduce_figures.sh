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

Environment: PYTHON, the interpreter to use (3.11 or 3.12); VENV, the virtual environment (default: .venv).
EOF
}

dest="" quick=false
while [ $# -gt 0 ]; do
    case $1 in
    --dest)
        [ $# -gt 1 ] || { echo "reproduce_figures.sh: error: $1 wants a value" >&2; exit 2; }
        dest=$2
        shift 2
        ;;
    --quick) quick=true; shift ;;
    -h | --help) usage; exit 0 ;;
    *) usage >&2; exit 2 ;;
    esac
done

# shellcheck source=setup_env.sh
source "$here/setup_env.sh"
setup_env recipes
started=$SECONDS
dest=${dest:-$here/../runs/figures}
mkdir -p "$dest"
dest=$(cd "$dest" && pwd)
cd "$here/.."
export OMP_NUM_THREADS=1 # two processes, one core each

say() {
    printf '[%2d:%02d] %s\n' $(((SECONDS - started) / 60)) $(((SECONDS - started) % 60)) "$*"
}

exec 9>"$dest/lock"
flock -n 9 || { echo "reproduce_figures.sh: error: $dest is in use by another run" >&2; exit 1; }

data=$dest/corpus/data-bin
depths="1 2 3 6 12 24 48 100" seeds=5 updates=400 shallow_updates=300
if $quick; then
    depths="1 2 4" seeds=1 updates=20 shallow_updates=20
fi
# the papers start feed-forward weights as fairseq 0.9 did
model="--arch admin_transformer --share-all-embeddings --xavier-ffn --cpu --seed 1"
small="$model --encoder-embed-dim 64 --encoder-ffn-embed-dim 128 --encoder-attention-heads 4 --decoder-attention-heads 4"
iwslt="$model --arch admin_transformer_iwslt_de_en"
deep="--encoder-layers 18 --decoder-layers 18"
training="--dropout 0.1 --criterion label_smoothed_cross_entropy --label-smoothing 0.1 --optimizer adam --clip-norm 0
    --adam-betas (0.9,0.98) --lr 1e-3 --lr-scheduler inverse_sqrt --warmup-init-lr 1e-7 --max-tokens 1024
    --num-workers 0 --no-epoch-checkpoints --log-format json --log-interval 20"

analyze() { # NAME KIND WORDS...: unless its results are there
    local name=$1 kind=$2
    shift 2
    [ ! -f "$dest/$name.json" ] || return 0
    # a half-written set has no .json: it is written last
    admin-fairseq analyze "$kind" "$data" "$@" --out "$dest/$name" >"$dest/$name.txt" 2>"$dest/$name.log"
    say "$name"
}

train() { # NAME FLAGS...
    local folder=$dest/$1 last=$dest/$1/checkpoint_last.pt
    shift
    ! grep -qs "done training" "$folder/train.log" || return 0
    mkdir -p "$folder"
    # fairseq copies this file without care: killed meanwhile, it leaves a part, and cannot resume from it
    [ ! -f "$last" ] || python -m zipfile -t "$last" >/dev/null 2>&1 || rm "$last"
    # shellcheck disable=SC2086
    fairseq-train "$data" --user-dir admin_fairseq $training --save-dir "$folder" "$@" >>"$folder/train.log" 2>&1
    say "trained ${folder##*/}"
}

# the analyses and trainings that need nothing from each other; each line is one job
# shellcheck disable=SC2086
job() {
    case $1 in
    corpus)
        bash scripts/prepare_quickstart.sh "$dest/corpus"
        say "corpus"
        ;;
    output-change)
        analyze output-change output-change $small --max-tokens 256 --depths $depths --seeds $seeds
        ;;
    dependency-start)
        analyze dependency-start dependency $iwslt --max-tokens 1024 --models post-ln pre-ln admin
        ;;
    dependency-deep)
        analyze dependency-deep dependency $small $deep --max-tokens 1024 --models post-ln pre-ln admin deepnet
        ;;
    gradients) analyze gradients gradients $small $deep --models post-ln pre-ln admin deepnet ;;
    stability) analyze stability stability $small $deep --init-type default ;;
    deep-admin | deep-post-ln)
        local init=default
        [ "$1" = deep-post-ln ] || init=adaptive-auto
        train "$1" $small $deep --warmup-updates 300 --max-update "$updates" --init-type $init --trace-interval 20 \
            --validate-interval-updates 50
        ;;
    shallow-admin) train "$1" $small --init-type adaptive-auto --warmup-updates 100 --max-update $shallow_updates ;;
    shallow-post-ln) train "$1" $small --warmup-updates 100 --max-update $shallow_updates ;;
    shallow-pre-ln)
        train "$1" $small --warmup-updates 100 --max-update $shallow_updates \
            --encoder-normalize-before --decoder-normalize-before
        ;;
    dependency-trained)
        local words=() name
        for name in post-ln pre-ln admin; do
            words+=("$name at its start=$name" "$name trained=$dest/shallow-$name/checkpoint_last.pt")
        done
        analyze dependency-trained dependency $small --max-tokens 1024 --models "${words[@]}"
        ;;
    trace)
        admin-fairseq analyze trace "$dest/deep-admin/train.log" --out "$dest/trace" 2>"$dest/trace.log"
        ;;
    curves)
        python scripts/plot_curves.py --out "$dest/curves.png" \
            Admin="$dest/deep-admin/train.log" Post-LN="$dest/deep-post-ln/train.log"
        ;;
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
            trap '[ $? = 0 ] || echo "reproduce_figures.sh: error: $name failed: see $dest/$name.log, or $dest/$name/train.log" >&2' EXIT
            job "$name" 9>&-
        } &
        running=$((running + 1))
    done
}

run_all corpus
run_all output-change deep-admin deep-post-ln shallow-admin shallow-post-ln shallow-pre-ln dependency-start \
    dependency-deep gradients stability
run_all dependency-trained trace curves
say "done: figures (.png, .pdf), numbers (.tsv, .json) and summaries (.txt) are in $dest"
