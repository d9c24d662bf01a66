#!/usr/bin/env bash
# Installs what the tests need, and runs them: bash scripts/test.sh [pytest arguments]
# Without arguments everything runs: the checks of the code (shellcheck, ruff, mypy), then all tests, one process for
# each core.
# Environment: PYTHON, the interpreter to use (3.11 to 3.14); VENV, the virtual environment (.venv); COVERAGE=yes, to be
# told the share of admin_fairseq that the tests not marked slow ran, commands included, which takes half as long again.
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
cores=$(count_cores python)
export OMP_NUM_THREADS=1
# hundreds of commands are run: without bytecode each compiles the plugin anew
unset PYTHONDONTWRITEBYTECODE
if [ $# -gt 0 ]; then
    exec python -m pytest "$@"
fi

shellcheck -x -P SCRIPTDIR scripts/*.sh
ruff check
ruff format --check
mypy
quick=(-n "$cores" --dist loadscope -m "not slow")
slow=(-n "$cores" --dist loadscope --no-loadscope-reorder -m slow --durations 40 --durations-min 5)
failed=0
if [ "${COVERAGE:-}" = yes ]; then
    # coverage's files, one for each process, lie outside the checkout
    folder=$(mktemp -d)
    trap 'rm -rf "$folder"' EXIT
    export COVERAGE_FILE=$folder/coverage
    coverage run -m pytest "${quick[@]}" || failed=$?
    coverage combine --quiet "$folder"
    coverage report
else
    python -m pytest "${quick[@]}" --durations 20 --durations-min 3 || failed=$?
fi
python -m pytest "${slow[@]}" || failed=$?
exit "$failed"
