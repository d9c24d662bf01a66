#!/usr/bin/env bash
# Generates the quick start's corpus for fairseq: bash scripts/prepare_quickstart.sh [DIR] [flags]
# bash scripts/prepare_quickstart.sh --help
set -euo pipefail
# shellcheck source=find_tools.sh
source "$(dirname "$0")/find_tools.sh"
find_tools admin-fairseq
if [ "${1:-}" = --help ] || [ "${1:-}" = -h ]; then
    echo "usage: bash scripts/prepare_quickstart.sh [DIR] [flags]; DIR is --dest, the flags are those of:"
elif [ $# -gt 0 ] && [[ $1 != -* ]]; then
    set -- --dest "$@"
fi
exec admin-fairseq prepare quickstart "$@"
