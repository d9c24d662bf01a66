#!/usr/bin/env bash
# Trains (and evaluates) many runs of a recipe: init types x depths x seeds, or the grid without warm-up.
# Goes on where it was stopped, and after runs that diverge or fail. --help: all flags
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
# shellcheck source=find_tools.sh
source "$here/find_tools.sh"
find_tools fairseq-train
exec python "$here/training/sweep.py" "$@"
