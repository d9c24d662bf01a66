#!/usr/bin/env bash
# Prepares Multi30k (task 1) English-German for fairseq. Licensed for research and education.
# bash scripts/prepare_multi30k.sh --help
set -euo pipefail
# shellcheck source=find_tools.sh
source "$(dirname "$0")/find_tools.sh"
find_tools admin-fairseq
exec admin-fairseq prepare multi30k_en-de "$@"
