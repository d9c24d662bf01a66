#!/usr/bin/env bash
# Prepare Multi30k (Elliott et al., 2016; task 1, raw text) English-German for fairseq. Licensed for research and education.
# bash scripts/prepare_multi30k.sh --help
set -euo pipefail
# shellcheck source=prepare.sh
source "$(dirname "$0")/prepare.sh"
prepare multi30k_en-de "$@"
