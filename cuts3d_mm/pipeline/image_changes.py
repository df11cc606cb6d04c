"""Describe how the images of a run have changed since it began."""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from functools import partial

import numpy as np
from numpy.typing import NDArray

from cuts3d_mm.files.paths import is_inside
from cuts3d_mm.files.remote import BucketPath, ObjectInfo
from cuts3d_mm.images.listing import ImageList
from cuts3d_mm.labels.image_stats import ImageStats

_THREADS = 16  # a network file system answers many questions at a time
_NAMES_PER_TASK = 4096
_SHOWN = 3  # images that a message names
_NO_FILE = -1


def stat_images(images: ImageList) -> ImageStats:
    """Read size and time of every image file."""
    names = images.names
    if isinstance(images.root, BucketPath):
        return _stat_objects(images.root, names)
    starts = range(0, len(names), _NAMES_PER_TASK)
    parts = [names[start : start + _NAMES_PER_TASK] for start in starts]
    with ThreadPoolExecutor(_THREADS) as pool:
        rows = list(pool.map(partial(_stat, os.fspath(images.root)), parts))
    size, mtime_ns = np.concatenate(rows).T.copy()
    return ImageStats(names, size, mtime_ns)


def _stat_objects(root: BucketPath, names: tuple[str, ...]) -> ImageStats:
    found = root.list_files(recursive=True)  # a thousand with each request
    missing = ObjectInfo(_NO_FILE, 0)
    stats = [found.get(name, missing) for name in names]
    size, mtime_ns = ([getattr(one, key) for one in stats] for key in ('st_size', 'st_mtime_ns'))
    return ImageStats(names, np.array(size, np.int64), np.array(mtime_ns, np.int64))


def _stat(root: str, names: Sequence[str]) -> NDArray[np.int64]:
    """Size and time of each file, (N, 2)."""
    rows = np.full((len(names), 2), (_NO_FILE, 0), np.int64)
    for row, name in zip(rows, names, strict=True):
        if not is_inside(name):
            continue
        try:
            found = os.stat(os.path.join(root, name))
        except OSError:  # labelling says why
            continue
        row[:] = found.st_size, found.st_mtime_ns
    return rows


def is_copy(before: ImageStats, now: ImageStats) -> bool:
    """Tell whether the same files lie there as a copy: other times for all, the same sizes."""
    return (
        before.names == now.names
        and np.array_equal(before.size, now.size)
        and not np.any(before.mtime_ns == now.mtime_ns)
    )


def describe_changes(before: ImageStats, now: ImageStats) -> list[str]:
    """Name the images that were added, removed or changed; empty if none were.

    A file that was replaced has another size or time. A copied folder has other times
    throughout and is no change, see `is_copy`.
    """
    if is_copy(before, now) or _is_same(before, now):
        return []
    old = {name: index for index, name in enumerate(before.names)}
    new = {name: index for index, name in enumerate(now.names)}
    more = [name for name in now.names if name not in old]
    fewer = [name for name in before.names if name not in new]
    both = [(name, old[name], new[name]) for name in now.names if name in old]
    sizes = [(name, int(before.size[i]), int(now.size[j])) for name, i, j in both]
    times = [(int(before.mtime_ns[i]), int(now.mtime_ns[j])) for _, i, j in both]
    changed = [
        f'{name} ({_change(size, size_now, time, time_now)})'
        for (name, size, size_now), (time, time_now) in zip(sizes, times, strict=True)
        if (size, time) != (size_now, time_now)
    ]
    parts = (_listed(more, 'more'), _listed(fewer, 'fewer'), _listed(changed, 'changed'))
    return [part for part in parts if part]


def _is_same(before: ImageStats, now: ImageStats) -> bool:
    return (
        before.names == now.names
        and np.array_equal(before.size, now.size)
        and np.array_equal(before.mtime_ns, now.mtime_ns)
    )


def _listed(names: Sequence[str], what: str) -> str:
    if not names:
        return ''
    rest = f' and {len(names) - _SHOWN} others' if len(names) > _SHOWN else ''
    plural = 's' if len(names) > 1 else ''
    return f'{len(names)} image{plural} {what}: {", ".join(names[:_SHOWN])}{rest}'


def _change(size: int, size_now: int, time: int, time_now: int) -> str:
    if _NO_FILE in (size, size_now):
        return 'was missing' if size == _NO_FILE else 'is missing'
    if size != size_now:
        return f'size {size} -> {size_now} bytes'
    return f'time {_day(time)} -> {_day(time_now)}'


def _day(time_ns: int) -> str:
    return datetime.fromtimestamp(time_ns / 1e9).strftime('%Y-%m-%d %H:%M:%S')
