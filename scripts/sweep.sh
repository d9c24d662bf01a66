#!/usr/bin/env bash
# Trains many runs of a recipe: init types x depths x seeds, or the grid without warm-up.
# bash scripts/sweep.sh RECIPE (--help: all flags)
set -euo pipefail
# shellcheck source=find_tools.sh
source "$(dirname "$0")/find_tools.sh"
find_tools admin-fairseq fairseq-train
exec admin-fairseq sweep "$@"
