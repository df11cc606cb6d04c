#!/usr/bin/env bash
# Make a virtual environment with one of the pinned stacks. Safe to repeat.
#   requirements/install.sh onedl|openmmlab FOLDER [cutting|check]
# `cutting` installs only what cutting masks needs: neither torch nor mmcv. `check` installs
# nothing and fails if the whole stack is not there.
# A ready wheel of mmcv is taken from UV_FIND_LINKS. Where there is none, mmcv comes without
# compiled operators, which is all that our detectors need: nothing is compiled. MMCV=compile
# compiles them.
set -euo pipefail
stack=$1
venv=$2
part=${3:-whole}
here=$(cd "$(dirname "$0")" && pwd)
python=$venv/bin/python
say() { printf '\033[1m[set-up] %s\033[0m\n' "$*"; }

# The stamp holds what was asked for, so that a changed pin installs again.
wanted=$(cat "$here"/*.txt "$here/../pyproject.toml" "$here/../setup.py" "$0" | cksum)
stamp=$venv/.cuts3d-stack
stamped() { [ -f "$stamp" ] && [ "$(cat "$stamp")" = "$1 $stack $wanted" ]; }
has_operators() { [ -n "$(find "$venv"/lib*/python*/site-packages/mmcv -name '_ext.*' 2>/dev/null)" ]; }
if stamped whole && { [ "${MMCV:-}" != compile ] || has_operators; } || stamped "$part"; then
    exit 0
fi
[ "$part" = check ] && exit 1

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
# mm* packages ask for opencv-python, which overwrites the files of the -headless one.
install() { uv pip install --quiet --python "$python" --override "$here/overrides.txt" "$@"; }

say "$stack: environment in $venv"
[ -x "$python" ] || uv venv --quiet --python 3.11 "$venv"
export VIRTUAL_ENV=$venv
if ! stamped cutting; then
    say 'what cutting masks needs'
    names=$(grep -vE '^#' "$here/cutting.txt" | paste -sd '|')
    cat "$here/$stack.txt" "$here/test.txt" | grep -E "^($names)\b" >"$venv/cutting.txt"
    install -r "$venv/cutting.txt"
    install --no-deps --editable "$here/.."
    echo "cutting $stack $wanted" >"$stamp"
fi
[ "$part" = cutting ] && exit 0

grep -E '^(torch|torchvision|numpy|setuptools)\b' "$here/$stack.txt" >"$venv/first.txt"
say 'torch (about 3 GB on the first run)'
install -r "$venv/first.txt"

mmcv=$(grep -E '^(onedl-)?mmcv==' "$here/$stack.txt")
name=${mmcv%%==*}
if [ "${MMCV:-}" = compile ]; then
    say "compiling $mmcv: about 20 minutes on 2 cores, once; a line follows every minute"
    install wheel ninja psutil
    (while sleep 60; do say 'still compiling mmcv'; done) &
    ticker=$!
    trap 'kill $ticker 2>/dev/null || true' EXIT
    # Not by a cache, which may hold the wheel without operators.
    MMCV_WITH_OPS=1 MAX_JOBS=${MAX_JOBS:-$(nproc)} install --no-build-isolation --no-deps \
        --no-cache --reinstall --no-binary "$name" "$mmcv"
    kill "$ticker"
    has_operators || { say "$mmcv was built without operators: is there a C++ compiler?"; exit 1; }
elif install --only-binary "$name" "$mmcv" 2>/dev/null; then
    say "$mmcv: a ready wheel"
elif [ "$stack" = openmmlab ]; then
    # The same files without operators. mmcv itself is built by a setuptools that is gone.
    mmcv=$(sed -n 's/^mmcv==/mmcv-lite==/p' "$here/$stack.txt")
    install "$mmcv"
else
    # Built without torch in sight: Python files only, in seconds.
    MMCV_WITH_OPS=0 install "$mmcv"
fi
if has_operators && ! "$python" -c 'import torch, mmcv._ext'; then
    say "the operators of $mmcv do not load: leave its wheel out of UV_FIND_LINKS, or MMCV=compile"
    exit 1
fi

say 'mm packages, demo and test tools'
grep -vE '^(onedl-)?mmcv==' "$here/$stack.txt" >"$venv/stack.txt"
install -r "$venv/stack.txt" -r "$here/test.txt" "$mmcv"
# Tests build the package; the setuptools that the second family needs is too old for it.
install --target "$venv/backend" "$(grep '^setuptools==' "$here/onedl.txt")"
echo "whole $stack $wanted" >"$stamp"
say 'done'
