#!/usr/bin/env bash
# At most 8 minutes on a machine with a GPU, from a checkout: OUT [PHOTOS]
# PHOTOS holds images/ and depth/; without it the photos are rendered scenes.
# First the cores alone, then the whole machine, what must be right on the device, and rates by stage.
# Each part has its own limit, and a part that fails does not keep the next one from running.
set -uo pipefail
if [ $# -lt 1 ]; then
    echo "usage: gpu_session.sh OUT [PHOTOS]" >&2
    exit 2
fi
OUT=$1
PHOTOS=${2:-}
PYTHON=${PYTHON:-python}
FOLDER=$(cd "$(dirname "$0")" && pwd)
export PYTHONPATH="$FOLDER/..:$FOLDER:$FOLDER/../tests${PYTHONPATH:+:$PYTHONPATH}"
mkdir -p "$OUT"
if ! "$PYTHON" -c 'import cuts3d_mm, mmdet, mmpretrain, transformers'; then
    timeout 120 "$PYTHON" -m pip install -q "$FOLDER/..[onedl,depth]" pytest || exit 1
fi
failed=0
part() {  # SECONDS PART
    timeout "$1" "$PYTHON" "$FOLDER/gpu_session.py" "$2" "$OUT" ${PHOTOS:+--photos "$PHOTOS"} \
        > "$OUT/$2.txt" 2> "$OUT/$2.err"
    local code=$?
    cat "$OUT/$2.txt"
    if [ $code != 0 ]; then
        echo "$2: failed with $code, see $OUT/$2.err"
        failed=1
    fi
}
part 60 cores
part 120 machine
part 150 check
part 70 rates
part 60 cutting
exit $failed
