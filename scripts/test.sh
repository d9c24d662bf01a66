#!/usr/bin/env bash
# Installs what the tests need, and runs them: bash scripts/test.sh [pytest arguments]
# Without arguments everything runs: the checks of the code (shellcheck, ruff, mypy), then all tests, one process for
# each core, with the share of admin_fairseq that they ran, commands included.
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
# nproc heeds this variable, so the cores are counted before it is set
cores=$(env -u OMP_NUM_THREADS nproc)
export OMP_NUM_THREADS=1
if [ $# -gt 0 ]; then
    exec python -m pytest "$@"
fi

shellcheck -x -P SCRIPTDIR scripts/*.sh
ruff check
ruff format --check
mypy
# coverage's files, one for each process, lie outside the checkout
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
export COVERAGE_FILE=$folder/coverage
coverage run -m pytest -n "$cores" --dist loadscope --durations 60 --durations-min 5
coverage combine --quiet "$folder"
coverage report
