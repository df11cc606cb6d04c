"""Choose the devices and the batch size of a run."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from pathlib import Path, PurePosixPath

from cuts3d_mm.files.remote import Place
from cuts3d_mm.labellers.networks import check_device, choose_device

from .identity import find_run

# A ViT-B/8 on 480 px and ZoeDepth stay below it in bfloat16, by the sizes of their activations;
# where they do not, a batch is halved.
_BYTES_PER_IMAGE = 2 * 2**30
_LARGEST = 32


def parse_devices(text: str) -> tuple[str, ...]:
    """Read `--devices`: 'auto', a device, or several with commas between them.

    Args:
        text: a number N is cuda:N; cpu is every worker, cpu:N a process of its own.

    Raises:
        ValueError: a name is no device, is not of this machine, or comes twice; or the devices
            are of two kinds, whose labels would differ.
    """
    names = [_named(name.strip()) for name in text.split(',')]
    if len({name.partition(':')[0] for name in names}) > 1 or 'cpu' in names[1:]:
        raise ValueError(f'--devices must be auto or devices of one kind, got {text!r}')
    if len(set(names)) < len(names):
        raise ValueError(f'--devices must name each device once, got {text!r}')
    for name in names:
        check_device(name)
    return tuple(names)


def cluster_devices(text: str, batch_size: int | None) -> tuple[str, ...]:
    """Read `--devices` of a run on a cluster, which may have GPUs that this machine has not.

    Args:
        text: `cuda`: one GPU for each process with networks; `cpu` or `auto`: none.

    Raises:
        ValueError: another device, or the batch size of GPUs is to be guessed.
    """
    if text in ('auto', 'cpu'):
        return ('cpu',)
    if text != 'cuda':
        raise ValueError(f'--devices must be cpu or cuda with --executor ray, got {text!r}')
    if batch_size is None:
        raise ValueError(
            '--executor ray on GPUs needs --batch-size, since their memory is not seen from here'
        )
    return ('cuda',)


def resolve_devices(names: tuple[str, ...]) -> tuple[str, ...]:
    """Replace 'auto' by all GPUs, or the CPU where there is none or no network needs one."""
    if names != ('auto',):
        return names
    if choose_device('auto') != 'cuda':
        return ('cpu',)
    import torch

    return tuple(f'cuda:{index}' for index in range(torch.cuda.device_count()))


def default_workers(devices: tuple[str, ...]) -> int:
    """One process for each core that no device needs for itself, at least one."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count()
    return max(1, (cores or 1) - (0 if devices == ('cpu',) else len(devices)))


def _named(name: str) -> str:
    """One name for one device."""
    kind, _, index = ('cuda', ':', name) if name.isdecimal() else name.partition(':')
    if kind == 'cuda' and not index:
        return 'cuda:0'
    return f'{kind}:{int(index)}' if index.isdecimal() else name


def choose_batch_size(out: Place, device: str) -> int:
    """Take the batch size of the run in `out`, or choose one by the memory of the device.

    A run keeps its batch size: another one changes the last bits of features.
    """
    stored = find_run(out)
    size = None if stored is None else stored.identity.extraction.get('batch_size')
    return size if isinstance(size, int) else batch_size_for(_memory_of(device))


def is_cut_on_device(cut_on: str, out: Place, device: str) -> bool:
    """Decide whether masks are cut and refined on the device of the networks, not on the CPU.

    Args:
        cut_on: 'cpu', 'device', or 'auto' for what the run in `out` does, in a new run the CPU.

    Raises:
        ValueError: another choice, or a device that does not count in double precision.
    """
    if cut_on not in ('auto', 'cpu', 'device'):
        raise ValueError(f"--cut-on must be 'auto', 'cpu' or 'device', got {cut_on!r}")
    if cut_on == 'auto':
        stored = find_run(out)
        return stored is not None and stored.identity.extraction.get('cut_on') == 'device'
    if cut_on == 'device' and device.partition(':')[0] not in ('cpu', 'cuda'):
        raise ValueError(
            f'--cut-on device needs a GPU with double precision, cuda, got {device}; choose cpu'
        )
    return cut_on == 'device'


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


def memory_limit(root: Path = Path('/')) -> int | None:
    """Smallest limit on the memory of this process by its control groups, as of a container.

    Args:
        root: folder in which `proc` and `sys` lie.

    Returns:
        Bytes; None where nothing limits it, as on a system other than Linux.
    """
    limits = []
    with suppress(OSError):
        for line in (root / 'proc/self/cgroup').read_text().splitlines():
            _, kinds, group = line.split(':', 2)
            if kinds not in ('', 'memory'):
                continue
            name, folder = ('memory.limit_in_bytes', 'memory') if kinds else ('memory.max', '')
            top = root / 'sys/fs/cgroup' / folder
            path = PurePosixPath(group.lstrip('/'))
            # Groups above limit it, too; a container sees its own group as the top.
            for place in (top / part for part in (path, *path.parents)):
                with suppress(OSError, ValueError):  # 'max': no limit
                    limits.append(int((place / name).read_text()))
    return min(limits, default=None)
