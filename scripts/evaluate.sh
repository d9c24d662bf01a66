#!/usr/bin/env bash
# Averages, translates and scores runs of train.sh, into results.tsv: bash scripts/evaluate.sh RUN ... (--help: all flags)
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
# shellcheck source=find_tools.sh
source "$here/find_tools.sh"
find_tools fairseq-generate
exec python "$here/training/evaluate.py" "$@"
