#!/usr/bin/env bash
# Admin in six minutes after installation, on two CPU cores: trains an 18L-18L Transformer on a small generated corpus
# with Admin and, beside it, with plain Post-LN: same depth, seed, learning rate and updates. Then translates,
# scores and draws both. Stopped in between, it goes on where it was.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)

usage() {
    cat <<'END'
usage: bash scripts/quickstart.sh [--seed N] [--updates N] [--dest DIR]

  --seed N      seed of both trainings (default: 1)
  --updates N   updates of both trainings (default: 900)
  --dest DIR    where everything goes (default: runs/quickstart/seedN-updatesN in the repository)

Environment: PYTHON, the interpreter to use (3.11 to 3.14); VENV, the virtual environment (default: .venv).
END
}

fail() {
    echo "quickstart.sh: error: $*" >&2
    exit 1
}

seed=1 updates=900 dest=""
while [ $# -gt 0 ]; do
    case $1 in
    --seed | --updates | --dest)
        [ $# -gt 1 ] || { echo "quickstart.sh: error: $1 needs a value" >&2; exit 2; }
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
export OMP_NUM_THREADS=1 # one core for each of the two trainings

say() {
    printf '[%2d:%02d] %s\n' $(((SECONDS - started) / 60)) $(((SECONDS - started) % 60)) "$*"
}

if [ ! -d "$dest/data/data-bin" ]; then
    say "generating the corpus: written-out numbers, dates, prices and times, English to German"
    admin-fairseq prepare quickstart --dest "$dest/data" >"$dest/prepare.log" 2>&1 ||
        fail "the corpus could not be made: see $dest/prepare.log"
fi

say "training 18L-18L with Admin and with Post-LN, $updates updates each, side by side"
flags=(--init-types admin post-ln --seeds "$seed" --cpu --processes 1 --jobs 2)
[ "$updates" = 900 ] || flags+=(--updates "$updates") # 900 are the recipe's
runs=$(admin-fairseq sweep quickstart "${flags[@]}" --data "$dest/data" --dest "$dest") ||
    fail "a training failed: see above"

say "translating the 500 sentences of the test set, beam 4, with each model"
: >"$dest/evaluate.log"
translations=()
while IFS=$'\t' read -r run outcome; do
    {
        admin-fairseq evaluate --subsets test --diverged "$run" >>"$dest/evaluate.log" 2>&1 &&
            say "translated and scored: $(basename "$run") ($outcome)"
    } &
    translations+=($!)
done <<<"$runs"
for translation in "${translations[@]}"; do
    wait "$translation" || fail "a translation failed: see $dest/evaluate.log"
done

say "results"
python "$here/quickstart_report.py" "$dest"
say "done"
