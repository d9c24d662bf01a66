#!/usr/bin/env bash
# Prepares IWSLT'14 German-English for fairseq, lowercased, 10,000 joint BPE merges.
# bash scripts/prepare_iwslt14_de-en.sh --help
set -euo pipefail
# shellcheck source=find_tools.sh
source "$(dirname "$0")/find_tools.sh"
find_tools admin-fairseq
exec admin-fairseq prepare iwslt14_de-en "$@"
