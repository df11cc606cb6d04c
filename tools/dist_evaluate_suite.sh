#!/usr/bin/env bash
# Score on many data sets, on several GPUs: CONFIG CHECKPOINT GPUS DATA OUT [arguments of evaluate_suite.py]
# Several machines: set NNODES, NODE_RANK, MASTER_ADDR and PORT on each.
set -euo pipefail
if [ $# -lt 5 ]; then
    echo "usage: dist_evaluate_suite.sh CONFIG CHECKPOINT GPUS DATA OUT [...]" >&2
    exit 2
fi
CONFIG=$1
CHECKPOINT=$2
GPUS=$3
shift 3

python -m torch.distributed.run \
    --nnodes="${NNODES:-1}" \
    --node_rank="${NODE_RANK:-0}" \
    --master_addr="${MASTER_ADDR:-127.0.0.1}" \
    --master_port="${PORT:-29500}" \
    --nproc_per_node="$GPUS" \
    "$(dirname "$0")/evaluate_suite.py" "$CONFIG" "$CHECKPOINT" "$@" --launcher pytorch
