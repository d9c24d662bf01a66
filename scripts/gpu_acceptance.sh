#!/usr/bin/env bash
# What has to hold on a GPU, in 9 minutes and without a network: bash scripts/gpu_acceptance.sh [--out FILE] [--data DIR]
# --help: all flags. Environment: PYTHON, the interpreter; else that of the environment in VENV (.venv), else python3.
set -euo pipefail
started=$PWD
cd "$(dirname "$0")/.."
python=${PYTHON:-${VENV:-.venv}/bin/python}
[ -n "${PYTHON:-}" ] || [ -x "$python" ] || python=python3
# one GPU, with float32 products in float32
export CUDA_VISIBLE_DEVICES=${CUDA_VISIBLE_DEVICES:-0} CUBLAS_WORKSPACE_CONFIG=:4096:8
unset TORCH_ALLOW_TF32_CUBLAS_OVERRIDE
# the checks run in this folder, and the files that are named are those of the caller's
words=()
while [ $# -gt 0 ]; do
    words+=("$1")
    case $1 in
    --out | --data)
        if [ $# -gt 1 ]; then
            shift
            [[ $1 == /* ]] || set -- "$started/$1" "${@:2}"
            words+=("$1")
        fi
        ;;
    esac
    shift
done
exec "$python" -m tests.gpu ${words[@]+"${words[@]}"}
