#!/usr/bin/env bash
# To be sourced: setup_env EXTRA,... makes a virtual environment in the repository (or in $VENV),
# installs the package with those extras, and puts it first in PATH. One that is whole is kept.

setup_env_fail() {
    echo "error: $*" >&2
    exit 1
}

# The tested interpreters first; $PYTHON, when given, alone.
find_python() {
    local candidate
    for candidate in ${PYTHON:-python3.11 python3.12 python3 python3.10 python3.9}; do
        if "$candidate" -c 'import sys; sys.exit(not (3, 9) <= sys.version_info[:2] <= (3, 12))' 2>/dev/null; then
            echo "$candidate"
            return
        fi
    done
    setup_env_fail "${PYTHON:-this machine} has no Python 3.11 or 3.12, for which fairseq has wheels (3.9 and 3.10 may work).
Bring one, for instance with uv (https://docs.astral.sh/uv):
    uv python install 3.11 && PYTHON=\$(uv python find 3.11) bash $0"
}

setup_env() {
    local extras=$1 repository python venv stamp wanted clear=()
    repository=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
    venv=${VENV:-$repository/.venv}
    stamp=$venv/installed
    wanted="$extras $(cat "$repository"/setup.py "$repository"/scripts/constraints.txt | cksum)"
    if ! "$venv/bin/python" -m pip --version >/dev/null 2>&1; then
        python=$(find_python) || exit 1
        if [ -f "$venv/pyvenv.cfg" ]; then # nothing but a virtual environment is ever emptied
            echo "the virtual environment in $venv has no python that works: making it again"
            clear=(--clear)
        fi
        echo "making a virtual environment with $("$python" --version) in $venv"
        "$python" -m venv ${clear[@]+"${clear[@]}"} "$venv" ||
            setup_env_fail "$python cannot make virtual environments (on Debian and Ubuntu: apt install python3-venv)"
    elif [ -n "${PYTHON:-}" ]; then
        echo "using the environment in $venv ($("$venv/bin/python" --version)); remove it for another PYTHON"
    fi
    export PATH=$venv/bin:$PATH
    if [ "$(cat "$stamp" 2>/dev/null)" != "$wanted" ]; then
        echo "installing (PyTorch is large; this is done once)"
        if ! python -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then
            # fairseq 0.12.2 needs omegaconf 2.0, whose metadata newer releases of pip refuse
            python -m pip install --quiet 'pip<24.1'
        fi
        python -m pip install --quiet --constraint "$repository/scripts/constraints.txt" \
            --editable "${repository}[$extras]" || setup_env_fail "the installation failed: see above"
        echo "$wanted" >"$stamp"
    fi
}

if [ "${BASH_SOURCE[0]}" = "$0" ]; then
    sed -n '2,/^$/s/^# //p' "$0"
fi
