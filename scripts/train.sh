#!/usr/bin/env bash
# Trains one run of a recipe: bash scripts/train.sh nmt-experiments/recipes/NAME.ini --init-type X (--help: all flags).
# Stopped in between, the same command goes on.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
# shellcheck source=find_tools.sh
source "$here/find_tools.sh"
find_tools fairseq-train
exec python "$here/training/train.py" "$@"
