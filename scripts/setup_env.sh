#!/usr/bin/env bash
# To be sourced: setup_env EXTRA,... makes a virtual environment in the repository (or in $VENV),
# installs the package with those extras, and puts it first in PATH. One that is whole is kept.
# A torch that is there already, in it or in $PYTHON, is kept as well.

setup_env_fail() {
    echo "error: $*" >&2
    exit 1
}

# The easiest interpreters first; $PYTHON, when given, alone.
find_python() {
    local candidate
    for candidate in ${PYTHON:-python3.11 python3.12 python3.13 python3.14 python3}; do
        if "$candidate" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 14))' 2>/dev/null; then
            echo "$candidate"
            return
        fi
    done
    setup_env_fail "${PYTHON:-this machine} is or has no Python 3.11, 3.12, 3.13 or 3.14.
Bring one, for instance with uv (https://docs.astral.sh/uv):
    uv python install 3.11 && PYTHON=\$(uv python find 3.11) bash $0"
}

has_torch() { # PYTHON
    "$1" -c 'import importlib.util, sys; sys.exit(importlib.util.find_spec("torch") is None)' 2>/dev/null
}

# macOS has no nproc, and what Linux has heeds OMP_NUM_THREADS.
count_cores() { # PYTHON
    "$1" -c 'import os
print(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count())'
}

make_venv() { # FOLDER
    local python flags=()
    python=$(find_python) || exit 1
    if [ -f "$1/pyvenv.cfg" ]; then # nothing but a virtual environment is ever emptied
        echo "the virtual environment in $1 has no python that works: making it again"
        flags=(--clear)
    fi
    if has_torch "$python"; then
        echo "$python has torch: the environment takes it, and what else is there, from it"
        flags+=(--system-site-packages)
    fi
    echo "making a virtual environment with $("$python" --version) in $1"
    "$python" -m venv ${flags[@]+"${flags[@]}"} "$1" ||
        setup_env_fail "$python cannot make virtual environments (on Debian and Ubuntu: apt install python3-venv)"
}

# Print the constraints; those of torch and numpy only if the environment has no torch of its own.
constraints() { # FILE
    if has_torch python; then
        grep -vE '^(torch|numpy)==' "$1"
        python -c 'from importlib.metadata import version; print("torch==" + version("torch"))'
    else
        cat "$1"
    fi
}

has_fairseq_wheel() {
    python -c 'import platform, sys
linux = (sys.platform, platform.machine()) == ("linux", "x86_64")
sys.exit(not (linux and sys.version_info[:2] in ((3, 11), (3, 12))))'
}

# Where ve-fairseq has no wheel: the Python sources that are in one, as admin_fairseq/needs.py has it.
install_fairseq_sources() { # CONSTRAINTS
    local folder requirement
    folder=$(mktemp -d)
    requirement=$(sed -n 's/^\(ve-fairseq==[^;]*\).*/\1/p' "$1")
    echo "$requirement has no wheel for this Python: installing its Python sources"
    python -m pip download "$requirement" --no-deps --only-binary :all: --python-version 3.12 \
        --platform manylinux_2_28_x86_64 --dest "$folder" &&
        python -m pip install wheel &&
        python -m wheel tags --remove --python-tag py3 --abi-tag none --platform-tag any "$folder"/*.whl &&
        python -m pip install --constraint "$1" "$folder"/*.whl || return 1
    rm -r "$folder"
}

install_package() { # REPOSITORY EXTRAS
    local constraints
    constraints=$(mktemp)
    constraints "$1/scripts/constraints.txt" >"$constraints"
    has_fairseq_wheel || install_fairseq_sources "$constraints" || return 1
    python -m pip install --constraint "$constraints" --editable "${1}[$2]" || return 1
    rm "$constraints"
}

setup_env() {
    local extras=$1 repository venv stamp wanted
    repository=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
    venv=${VENV:-$repository/.venv}
    stamp=$venv/installed
    wanted="$extras $(cat "$repository"/setup.py "$repository"/scripts/constraints.txt | cksum)"
    if ! "$venv/bin/python" -m pip --version >/dev/null 2>&1; then
        make_venv "$venv"
    elif [ -n "${PYTHON:-}" ]; then
        echo "using the environment in $venv ($("$venv/bin/python" --version)); remove it for another PYTHON"
    fi
    export PATH=$venv/bin:$PATH
    if [ "$(cat "$stamp" 2>/dev/null)" != "$wanted" ]; then
        echo "installing (PyTorch is large; this is done once)"
        install_package "$repository" "$extras" || setup_env_fail "the installation failed: see above.
If a compiler is missing there (gcc, clang), a package has no wheel for this Python or this machine: take Python 3.11.
Without a network: docs/where_it_runs.md"
        echo "$wanted" >"$stamp"
    fi
}

if [ "${BASH_SOURCE[0]}" = "$0" ]; then
    sed -n '2,/^$/s/^# //p' "$0"
fi
