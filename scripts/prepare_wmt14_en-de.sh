#!/usr/bin/env bash
# Prepares WMT'14 English-German for fairseq; --news-commentary v9 takes WMT'14's instead of v12.
# bash scripts/prepare_wmt14_en-de.sh --help
set -euo pipefail
# shellcheck source=find_tools.sh
source "$(dirname "$0")/find_tools.sh"
find_tools admin-fairseq
exec admin-fairseq prepare wmt14_en-de "$@"
