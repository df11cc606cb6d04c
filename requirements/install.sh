#!/usr/bin/env bash
# Make a virtual environment with one of the pinned stacks. Safe to repeat.
#   requirements/install.sh onedl|openmmlab FOLDER
# Ready wheels are taken from UV_FIND_LINKS; without one mmcv is compiled.
set -euo pipefail
stack=$1
venv=$2
here=$(cd "$(dirname "$0")" && pwd)
python=$venv/bin/python
say() { printf '\033[1m[set-up] %s\033[0m\n' "$*"; }

# The stamp holds what was asked for, so that a changed pin installs again.
wanted=$(cat "$here/$stack.txt" "$here/test.txt" "$here/../pyproject.toml" "$0" | cksum)
stamp=$venv/.cuts3d-stack
if [ -f "$stamp" ] && [ "$(cat "$stamp")" = "$stack $wanted" ]; then
    exit 0
fi

if ! command -v uv >/dev/null; then
    if ! python3 -m uv --version >/dev/null 2>&1; then
        say 'uv is not installed: putting it into .venv-uv'
        python3 -m venv "$here/../.venv-uv"
        "$here/../.venv-uv/bin/pip" install --quiet uv
        uv() { "$here/../.venv-uv/bin/uv" "$@"; }
    else
        uv() { python3 -m uv "$@"; }
    fi
fi

say "$stack: environment in $venv"
[ -x "$python" ] || uv venv --quiet --python 3.11 "$venv"
export VIRTUAL_ENV=$venv
grep -E '^(torch|torchvision|numpy|setuptools)\b' "$here/$stack.txt" >"$venv/first.txt"
say 'torch (about 3 GB on the first run)'
uv pip install --quiet --python "$python" -r "$venv/first.txt" wheel ninja psutil

mmcv=$(grep -E '^(onedl-)?mmcv==' "$here/$stack.txt")
if ! uv pip install --quiet --python "$python" --only-binary :all: "$mmcv" 2>/dev/null; then
    say "$mmcv has no ready wheel here (UV_FIND_LINKS=${UV_FIND_LINKS:-}): compiling it"
    say 'this takes about 20 minutes on 2 cores, once; a line follows every minute'
    (while sleep 60; do say 'still compiling mmcv'; done) &
    ticker=$!
    trap 'kill $ticker 2>/dev/null || true' EXIT
    MMCV_WITH_OPS=1 MAX_JOBS=${MAX_JOBS:-$(nproc)} \
        uv pip install --quiet --python "$python" --no-build-isolation "$mmcv"
    kill "$ticker"
fi

say 'mm packages, demo and test tools'
uv pip install --quiet --python "$python" -r "$here/$stack.txt" -r "$here/test.txt"
# opencv-python and -headless overwrite each other's files, and mm* packages pull both.
# Leave exactly one, freshly unpacked.
opencv=$(grep -E '^opencv-python-headless' "$here/$stack.txt")
uv pip uninstall --quiet --python "$python" opencv-python opencv-python-headless 2>/dev/null || true
uv pip install --quiet --python "$python" --no-deps "$opencv"
uv pip install --quiet --python "$python" --no-deps --editable "$here/.."
echo "$stack $wanted" >"$stamp"
say 'done'
