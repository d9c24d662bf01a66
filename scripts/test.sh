#!/usr/bin/env bash
# Installs what the tests need, and runs them: bash scripts/test.sh [pytest arguments]
# Without arguments all tests run, one process for each core.
# Environment: PYTHON, the interpreter to use (3.11 or 3.12); VENV, the virtual environment (.venv).
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
if [ "${1:-}" = --help ] || [ "${1:-}" = -h ]; then
    sed -n '2,/^set/s/^# //p' "$0"
    exit
fi
# shellcheck source=setup_env.sh
source "$here/setup_env.sh"
setup_env recipes,test
cd "$here/.."
shellcheck -x -P SCRIPTDIR scripts/*.sh
if [ $# -eq 0 ]; then
    set -- -n "$(nproc)" --dist loadscope
fi
OMP_NUM_THREADS=1 exec python -m pytest "$@"
