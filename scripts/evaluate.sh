#!/usr/bin/env bash
# Averages, translates and scores runs, into results.tsv.
# bash scripts/evaluate.sh RUN... (--help: all flags)
set -euo pipefail
# shellcheck source=find_tools.sh
source "$(dirname "$0")/find_tools.sh"
find_tools admin-fairseq fairseq-generate
exec admin-fairseq evaluate "$@"
