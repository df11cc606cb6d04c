#!/usr/bin/env bash
# Train on several GPUs of one machine, or of several: CONFIG GPUS [arguments of train.py]
# Several machines: set NNODES, NODE_RANK, MASTER_ADDR and PORT on each.
set -euo pipefail
if [ $# -lt 2 ]; then
    echo "usage: dist_train.sh CONFIG GPUS [...]" >&2
    exit 2
fi
CONFIG=$1
GPUS=$2
shift 2

# The current folder is not searched for modules.
PYTHONSAFEPATH=1 python -m torch.distributed.run \
    --nnodes="${NNODES:-1}" \
    --node_rank="${NODE_RANK:-0}" \
    --master_addr="${MASTER_ADDR:-127.0.0.1}" \
    --master_port="${PORT:-29500}" \
    --nproc_per_node="$GPUS" \
    "$(dirname "$0")/train.py" "$CONFIG" --launcher pytorch "$@"
