"""Choose how many images go through the networks together."""

from __future__ import annotations

import sys
from pathlib import Path

from cuts3d_mm.pipeline.identity import read_run

# A ViT-B/8 on 480 px and ZoeDepth stay below it in bfloat16, by the sizes of their activations;
# where they do not, a batch is halved.
_BYTES_PER_IMAGE = 2 * 2**30
_LARGEST = 32


def choose_batch_size(out: Path, device: str) -> int:
    """Take the batch size of the run in `out`, or choose one by the memory of the device.

    A run keeps its batch size: another one changes the last bits of features.

    Args:
        out: folder of the label store.
        device: of the networks.
    """
    if (out / 'run.json').is_file():
        stored = read_run(out / 'run.json').extraction.get('batch_size')
        if isinstance(stored, int):
            return stored
    return batch_size_for(_memory_of(device))


def batch_size_for(num_bytes: int) -> int:
    """The largest power of two that fits, at most 32; 1 for a device without memory of its own."""
    size = 1
    while 2 * size * _BYTES_PER_IMAGE <= num_bytes and size < _LARGEST:
        size *= 2
    return size


def _memory_of(device: str) -> int:
    """Bytes of a GPU; 0 for anything else, where batches are no faster."""
    torch = sys.modules.get('torch')
    if torch is None or not device.startswith('cuda'):
        return 0
    return int(torch.cuda.get_device_properties(torch.device(device)).total_memory)
