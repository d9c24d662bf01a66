#!/usr/bin/env bash
# Prepares WMT'14 English-French for fairseq: 6.6 GB to download, 40 million pairs.
# bash scripts/prepare_wmt14_en-fr.sh --help
set -euo pipefail
# shellcheck source=find_tools.sh
source "$(dirname "$0")/find_tools.sh"
find_tools admin-fairseq
exec admin-fairseq prepare wmt14_en-fr "$@"
