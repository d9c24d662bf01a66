#!/usr/bin/env bash
# To be sourced: find_tools TOOL... puts the repository's virtual environment (or $VENV) first in PATH where
# it is, and stops if a tool is missing. Nothing is installed: on a cluster, many machines run this at once.

find_tools() {
    local venv tool
    venv=${VENV:-$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)/.venv}
    [ ! -x "$venv/bin/python" ] || export PATH=$venv/bin:$PATH
    for tool in python "$@"; do
        command -v "$tool" >/dev/null || {
            echo "$(basename "$0"): error: $tool is not in PATH: pip install '.[recipes]' in the repository," \
                "or activate the environment that has it" >&2
            exit 1
        }
    done
}
