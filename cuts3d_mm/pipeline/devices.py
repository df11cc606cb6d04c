"""Read on which devices the networks run, and how many processes do the rest."""

from __future__ import annotations

import os

from cuts3d_mm.labellers.networks import check_device, choose_device


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
        batch_size: what the user chose.

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
