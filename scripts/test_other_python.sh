#!/usr/bin/env bash
# Runs tests on a second interpreter: bash scripts/test_other_python.sh [--make] [pytest arguments]
# Without arguments: the quick tests of what interpreters, torch, numpy and hydra do differently, and trainings that
# are killed, resumed, averaged, translated with and folded.
# --make first makes the environment that it needs, which is kept for all clones: a download of 1 to 3 GB, 6 GB on disk.
# Where there is none it says so, and succeeds: continuous integration downloads no gigabytes by itself.
# Environment: OTHER_PYTHON, the release to test (3.13).
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
if [ "${1:-}" = --help ] || [ "${1:-}" = -h ]; then
    sed -n '2,/^set/s/^# //p' "$0"
    exit
fi
release=${OTHER_PYTHON:-3.13}
environment=${XDG_CACHE_HOME:-$HOME/.cache}/admin_fairseq/venv-$release

# pyenv's pythonX.Y is a stand-in that fails where another release is chosen
find_release() {
    local candidate
    for candidate in "python$release" "${PYENV_ROOT:-$HOME/.pyenv}/versions/$release".*/bin/python; do
        if "$candidate" -c "import sys; sys.exit('%d.%d' % sys.version_info[:2] != '$release')" 2>/dev/null; then
            echo "$candidate"
            return
        fi
    done
    echo "error: there is no Python $release here: uv python install $release brings one" >&2
    return 1
}

# shellcheck source=setup_env.sh
source "$here/setup_env.sh"
if [ "${1:-}" = --make ]; then
    shift
    python=$(find_release)
    (PYTHON=$python VENV=$environment setup_env recipes,test)
fi
if ! missing=$("$environment/bin/python" -c 'import torch, fairseq, pytest, xdist, hypothesis' 2>&1); then
    echo "skipped: the quick tests on Python $release. No environment in $environment has what they need" \
        "(${missing##*$'\n'}); bash scripts/test_other_python.sh --make makes one"
    exit
fi
cd "$here/.."
echo "the quick tests on $("$environment/bin/python" --version), torch" \
    "$("$environment/bin/python" -c 'from importlib.metadata import version; print(version("torch"))')"
export OMP_NUM_THREADS=1
if [ $# -gt 0 ]; then
    exec "$environment/bin/python" -m pytest "$@"
fi
quick=(tests/compat tests/test_files.py tests/test_layers.py tests/test_needs.py tests/test_operators.py
    tests/test_optim.py tests/test_options.py tests/test_parity.py tests/test_residual.py
    tests/profile/test_first_step.py tests/deploy/test_fold.py tests/commands/test_own_loop.py)
whole=("tests/commands/test_matrix.py::TestOurs::test_flags[adaptive]"
    "tests/commands/test_matrix.py::TestTraining::test_flags[eval-bleu]"
    "tests/commands/test_matrix.py::TestTraining::test_flags[bf16]")
cores=$(count_cores "$environment/bin/python")
failed=0
"$environment/bin/python" -m pytest -n "$cores" --dist loadscope -m "not subprocess and not slow" "${quick[@]}" ||
    failed=$?
"$environment/bin/python" -m pytest "${whole[@]}" || failed=$?
exit "$failed"
