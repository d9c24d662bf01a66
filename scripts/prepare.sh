#!/usr/bin/env bash
# To be sourced: prepare RECIPE FLAGS... runs scripts/corpus on a recipe of nmt-experiments/recipes.
prepare() {
    local here recipe=$1
    shift
    here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
    PREPARE_SCRIPT=$(basename "$0")
    export PREPARE_SCRIPT
    if ! python -c 'import sacremoses, subword_nmt' 2>/dev/null; then
        echo "$PREPARE_SCRIPT: error: python has no sacremoses or no subword-nmt: pip install '.[recipes]' in the repository" >&2
        exit 1
    fi
    export PYTHONPATH=$here${PYTHONPATH:+:$PYTHONPATH}
    exec python -m corpus --recipe "$recipe" "$@"
}
