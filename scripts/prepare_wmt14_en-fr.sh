#!/usr/bin/env bash
# Prepare WMT'14 English-French for fairseq: 6.6 GB to download, 40 million pairs.
# bash scripts/prepare_wmt14_en-fr.sh --help
set -euo pipefail
# shellcheck source=prepare.sh
source "$(dirname "$0")/prepare.sh"
prepare wmt14_en-fr "$@"
