#!/usr/bin/env bash
# Admin in a quarter of an hour, on two CPU cores: trains an 18L-18L Transformer on a small generated corpus
# with Admin and, beside it, with plain Post-LN: same depth, seed, learning rate and updates. Then translates,
# scores and draws both. Stopped in between, it goes on where it was.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)

usage() {
    cat <<'EOF'
usage: bash scripts/quickstart.sh [--seed N] [--updates N] [--dest DIR]

  --seed N      seed of both trainings (default: 1)
  --updates N   updates of both trainings (default: 900)
  --dest DIR    where everything goes (default: runs/quickstart/seedN-updatesN in the repository)

Environment: PYTHON, the interpreter to use (3.11 or 3.12); VENV, the virtual environment (default: .venv).
EOF
}

seed=1 updates=900 dest=""
while [ $# -gt 0 ]; do
    case $1 in
    --seed | --updates | --dest)
        [ $# -gt 1 ] || { echo "quickstart.sh: error: $1 wants a value" >&2; exit 2; }
        declare "${1#--}=$2"
        shift 2
        ;;
    -h | --help) usage; exit 0 ;;
    *) usage >&2; exit 2 ;;
    esac
done

# shellcheck source=setup_env.sh
source "$here/setup_env.sh"
setup_env recipes
started=$SECONDS
dest=${dest:-$here/../runs/quickstart/seed$seed-updates$updates}
mkdir -p "$dest"
dest=$(cd "$dest" && pwd)
cd "$here/.."
export OMP_NUM_THREADS=1 # one core for each of the two trainings
export PYTHONUNBUFFERED=1

say() {
    printf '[%2d:%02d] %s\n' $(((SECONDS - started) / 60)) $(((SECONDS - started) % 60)) "$*"
}

fail() {
    echo "quickstart.sh: error: $*" >&2
    exit 1
}

logged() { # LOG COMMAND...: run it, its output into LOG
    local log=$1
    shift
    "$@" >>"$log" 2>&1 || fail "$1 failed: see $log"
}

# Background jobs are the fairseq commands themselves (exec), so that they can be ended, and their exit codes kept.
pids=()
trap '[ ${#pids[@]} -eq 0 ] || kill "${pids[@]}" 2>/dev/null || true' EXIT
trap 'exit 130' INT TERM

wait_for_all() { # LOG...: one for each background job, in the order of their start
    local pid
    for pid in "${pids[@]}"; do
        wait "$pid" || fail "a command failed: see $1"
        shift
    done
    pids=()
}

exec 9>"$dest/lock"
flock -n 9 || fail "$dest is in use by another quick start, or by trainings that one left behind when it was killed"

if [ ! -d "$dest/data-bin" ]; then
    say "generating the corpus: written-out numbers, dates, prices and times, English to German"
    bash scripts/prepare_quickstart.sh "$dest"
fi

# everything that both models have in common
recipe=(
    "$dest/data-bin" --user-dir admin_fairseq --cpu --seed "$seed"
    --arch admin_transformer --encoder-layers 18 --decoder-layers 18 --share-all-embeddings
    --encoder-embed-dim 64 --encoder-ffn-embed-dim 128 --encoder-attention-heads 4 --decoder-attention-heads 4
    --dropout 0.1 --criterion label_smoothed_cross_entropy --label-smoothing 0.1
    --optimizer adam --adam-betas "(0.9, 0.98)" --clip-norm 0
    --lr 1e-3 --lr-scheduler inverse_sqrt --warmup-updates 300 --warmup-init-lr 1e-7
    --max-tokens 1024 --max-update "$updates" --num-workers 0
    --update-epoch-batch-itr True # each epoch's batches in an order of its own, also after a resume: see the README
    --validate-interval-updates 100 --save-interval-updates 100 --keep-interval-updates 1
    --no-epoch-checkpoints --log-format json --log-interval 20
)

settings=$(printf '%s\n' "${recipe[@]}")
[ -f "$dest/recipe" ] || echo "$settings" >"$dest/recipe"
[ "$(cat "$dest/recipe")" = "$settings" ] || fail "$dest holds a run with other settings: name another --dest"

if [ ! -f "$dest/admin/admin.profile" ]; then
    say "stage 1: profiling the first batch"
    logged "$dest/profile.log" fairseq-train "${recipe[@]}" --save-dir "$dest/admin" --init-type adaptive-profiling
fi

train() { # NAME INIT_TYPE
    grep -qs "done training" "$dest/$1/train.log" && return
    local last=$dest/$1/checkpoint_last.pt
    mkdir -p "$dest/$1"
    # fairseq copies this file without care: killed meanwhile, it leaves a part, and cannot resume from it
    [ ! -f "$last" ] || python -m zipfile -t "$last" >/dev/null 2>&1 || rm "$last"
    exec fairseq-train "${recipe[@]}" --save-dir "$dest/$1" --init-type "$2" >>"$dest/$1/train.log" 2>&1
}

last() { # NAME: its last update and validation perplexity; without importing fairseq, which takes seconds
    PYTHONPATH=$here/../admin_fairseq python - "$dest/$1/train.log" <<'EOF'
import sys
from logs import read_log
train, valid = read_log(sys.argv[1])
update = train[-1]["num_updates"] if train else 0
print(f"update {update:>4}", f"perplexity {valid[-1]['ppl']:6.2f}" if valid else "")
EOF
}

say "stage 2: training 18L-18L with Admin and with Post-LN, $updates updates each, side by side"
train admin adaptive &
pids+=($!)
train post-ln default &
pids+=($!)
while [ -n "$(jobs -rp)" ]; do
    for _ in 1 2 3 4 5 6; do
        sleep 5
        [ -n "$(jobs -rp)" ] || break
    done
    say "Admin: $(last admin) | Post-LN: $(last post-ln)"
done
wait_for_all "$dest/admin/train.log" "$dest/post-ln/train.log"

say "translating the test set"
translate() { # NAME
    [ -f "$dest/$1/test.out" ] && return
    exec fairseq-generate "$dest/data-bin" --user-dir admin_fairseq --cpu --path "$dest/$1/checkpoint_last.pt" \
        --beam 4 --batch-size 128 --remove-bpe >"$dest/$1/test.part" 2>&1
}
for name in admin post-ln; do
    translate "$name" &
    pids+=($!)
done
wait_for_all "$dest/admin/test.part" "$dest/post-ln/test.part"
for name in admin post-ln; do
    [ -f "$dest/$name/test.out" ] || mv "$dest/$name/test.part" "$dest/$name/test.out"
done

say "results"
python scripts/quickstart_report.py "$dest" --seed "$seed"
say "done"
