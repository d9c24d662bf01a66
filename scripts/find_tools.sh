#!/usr/bin/env bash
# To be sourced: find_tools TOOL... puts the repository's virtual environment (or $VENV) first in PATH
# if it has all the tools, and stops if one is nowhere. Nothing is installed: on a cluster, many
# machines run this at once.

find_tools() {
    local folder tool
    folder=${VENV:-$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)/.venv}/bin
    if [ -d "$folder" ]; then
        for tool in python "$@"; do
            if [ ! -x "$folder/$tool" ]; then
                # half-made, or made without an extra: it must not hide an environment that is whole
                echo "$(basename "$0"): $folder has no $tool: looking in PATH" >&2
                folder=""
                break
            fi
        done
        [ -z "$folder" ] || export PATH=$folder:$PATH
    fi
    for tool in python "$@"; do
        command -v "$tool" >/dev/null || {
            echo "$(basename "$0"): error: $tool is not in PATH: pip install '.[recipes]' in the repository," \
                "or activate the environment that has it" >&2
            exit 1
        }
    done
}

if [ "${BASH_SOURCE[0]}" = "$0" ]; then
    sed -n '2,/^$/s/^# //p' "$0"
fi
