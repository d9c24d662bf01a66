#!/usr/bin/env bash
# Trains one run of a recipe.
# bash scripts/train.sh RECIPE --init-type X (--help: all flags)
set -euo pipefail
# shellcheck source=find_tools.sh
source "$(dirname "$0")/find_tools.sh"
find_tools admin-fairseq fairseq-train
exec admin-fairseq train "$@"
