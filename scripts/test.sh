#!/usr/bin/env bash
# Installs what the tests need and runs them all: bash scripts/test.sh [pytest arguments]
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
# shellcheck source=setup_env.sh
source "$here/setup_env.sh"
setup_env recipes,test
cd "$here/.."
shellcheck -x -P SCRIPTDIR scripts/*.sh
if [ $# -eq 0 ]; then
    set -- -n "$(nproc)" --dist loadscope
fi
OMP_NUM_THREADS=1 exec python -m pytest "$@"
