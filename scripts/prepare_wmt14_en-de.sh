#!/usr/bin/env bash
# Prepare WMT'14 English-German for fairseq; --news-commentary v9 takes WMT'14's instead of the authors' v12.
# bash scripts/prepare_wmt14_en-de.sh --help
set -euo pipefail
# shellcheck source=prepare.sh
source "$(dirname "$0")/prepare.sh"
prepare wmt14_en-de "$@"
