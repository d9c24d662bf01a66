#!/usr/bin/env bash
# Prepare IWSLT'14 German-English for fairseq, lowercased, 10,000 joint BPE merges.
# bash scripts/prepare_iwslt14_de-en.sh --help
set -euo pipefail
# shellcheck source=prepare.sh
source "$(dirname "$0")/prepare.sh"
prepare iwslt14_de-en "$@"
