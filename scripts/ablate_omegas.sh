#!/usr/bin/env bash
# Do Admin's omegas matter, and which? Trains the quick start with omegas that are frozen, all 1, shuffled among sites, or
# measured with another seed, batch or corpus, and writes results.tsv with its report. Two trainings at a time; stopped
# in between, it goes on where it was.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)

usage() {
    cat <<'EOF'
usage: bash scripts/ablate_omegas.sh [--seeds "1 2 3"] [--updates N] [--only "NAME ..."] [--other-corpus DIR] [--dest DIR]

  --seeds "N ..."      of the trainings (default: 1 2 3)
  --updates N          of each (default: 600)
  --only "NAME ..."    of measured flat frozen ones shuffled reversed other-seed quarter-batch fourfold-batch padding
                       xavier other-corpus (default: all; other-corpus only with --other-corpus)
  --other-corpus DIR   a corpus that admin-fairseq prepare made, English to German, such as data/multi30k_en-de
  --dest DIR           where everything goes (default: runs/ablations in the repository)

Environment: PYTHON, the interpreter to use (3.11 to 3.14); VENV, the virtual environment (default: .venv).
EOF
}

fail() {
    echo "ablate_omegas.sh: error: $*" >&2
    exit 1
}

seeds="1 2 3" updates=600 dest="" other=""
only="measured flat frozen ones shuffled reversed other-seed quarter-batch fourfold-batch padding xavier"
while [ $# -gt 0 ]; do
    case $1 in
    --seeds | --updates | --only | --other-corpus | --dest)
        [ $# -gt 1 ] || { echo "ablate_omegas.sh: error: $1 needs a value" >&2; exit 2; }
        case $1 in
        --seeds) seeds=$2 ;;
        --updates) updates=$2 ;;
        --only) only=$2 ;;
        --other-corpus) other=$2 only="$only other-corpus" ;;
        --dest) dest=$2 ;;
        esac
        shift 2
        ;;
    -h | --help) usage; exit 0 ;;
    *) usage >&2; exit 2 ;;
    esac
done

# shellcheck source=setup_env.sh
source "$here/setup_env.sh"
setup_env recipes
dest=${dest:-$here/../runs/ablations}
mkdir -p "$dest/omegas"
dest=$(cd "$dest" && pwd)
export OMP_NUM_THREADS=1 # one core for each of two trainings
[ -d "$dest/data/data-bin" ] || admin-fairseq prepare quickstart --dest "$dest/data"

batch=1024 # tokens, the recipe's
common=(--cpu --processes 1 --lr 1e-3 --updates "$updates" --data "$dest/data")

# measures a profile of a seed on a batch: measure FILE SEED TOKENS [flags of train]
measure() {
    local file=$1 seed=$2 tokens=$3 command
    shift 3
    [ -e "$file" ] && return
    command=$(admin-fairseq train quickstart --init-type admin "${common[@]}" --seed "$seed" --dest "$dest/omegas/run" \
        "$@" --dry-run | grep -e adaptive-profiling)
    # the last of a flag counts; --save-dir stays empty
    eval "$command --max-tokens $tokens --admin-profile $(printf %q "$file")" >"$file.log" 2>&1 || fail "$file could not be measured: see $file.log"
}

# trains all seeds, one after the other: run [flags of sweep]
run() {
    # shellcheck disable=SC2086  # seeds are words
    admin-fairseq sweep quickstart "${common[@]}" --seeds $seeds --dest "$dest" "$@"
}

# makes the profiles of an ablation: make_profiles NAME
make_profiles() {
    local name=$1 seed file
    for seed in $seeds; do
        file=$dest/omegas/$name-$seed.profile
        case $name in
        measured) measure "$file" "$seed" "$batch" ;;
        ones | shuffled | reversed)
            # shuffled anew for each seed
            [ -e "$file" ] || python "$here/edit_omegas.py" "$dest/omegas/measured-$seed.profile" "$name" "$file" --seed "$seed" ||
                fail "$file could not be made: see above"
            ;;
        other-seed) measure "$file" $((seed + 1000)) "$batch" ;;
        quarter-batch) measure "$file" "$seed" $((batch / 4)) ;;
        fourfold-batch) measure "$file" "$seed" $((batch * 4)) ;;
        other-corpus) measure "$file" "$seed" "$batch" --data "$other" ;;
        esac
    done
}

# trains ablations, one after the other: ablate NAME ...
ablate() {
    local name
    for name in "$@"; do
        case $name in
        measured) run --init-types admin ;;
        flat) run --init-types admin-flat ;;
        frozen) run --init-types admin -- --freeze-omega ;;
        padding) run --init-types admin -- --admin-count-padding ;;
        xavier) run --init-types admin -- --xavier-ffn ;;
        *) run --init-types admin --profile "$dest/omegas/$name-{seed}.profile" ;;
        esac || return 1
    done
}

known=" measured flat frozen ones shuffled reversed other-seed quarter-batch fourfold-batch padding xavier other-corpus "
streams=("" "") number=0
for name in $only; do
    [ "${known#* "$name" }" != "$known" ] || fail "--only $name: there is no such ablation (see --help)"
    if [ "$name" = other-corpus ] && [ ! -d "$other/data-bin" ]; then
        fail "--other-corpus $other: has no data-bin; admin-fairseq prepare makes one"
    fi
    streams[number % 2]+=" $name"
    number=$((number + 1))
done
# one after the other, before anything trains: a folder of profiles takes one process at a time; and first those that
# others are edited from
for name in measured $only; do
    make_profiles "$name"
done
# shellcheck disable=SC2086  # names are words
{
    ablate ${streams[0]} &
    second=$!
    failed=0
    ablate ${streams[1]} || failed=1
    wait "$second" && [ "$failed" = 0 ] || fail "a training failed: see above; the same command goes on"
}
admin-fairseq evaluate "$dest"/adaptive*-seed* --diverged --subsets test
admin-fairseq report "$dest/results.tsv"
