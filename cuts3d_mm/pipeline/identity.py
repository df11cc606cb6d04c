"""Tell whether a run goes on with the same labeller and the same images."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from cuts3d_mm import __version__
from cuts3d_mm.files.atomic import open_atomically, write_first, write_whole
from cuts3d_mm.files.paths import is_inside
from cuts3d_mm.files.remote import BucketPath, ObjectInfo, Place
from cuts3d_mm.files.stored_run import RunMismatch, require_same_run
from cuts3d_mm.images.listing import ImageList
from cuts3d_mm.labellers.registry import resolve_config

FORMAT = 2
_PACKAGES = ('torch', 'numpy', 'scipy', 'numba', 'pillow', 'mmpretrain', 'onedl-mmpretrain')
_THREADS = 16  # a network file system answers many questions at a time
_NAMES_PER_TASK = 4096
_SHOWN = 3  # images that a message names
_NO_FILE = -1
_REMEDY = (
    'choose another OUT, or the same images and settings, --exclude, --precision and '
    '--batch-size included'
)
_SCHEMA = pa.schema([('name', pa.string()), ('size', pa.int64()), ('mtime_ns', pa.int64())])


@dataclass(frozen=True)
class RunIdentity:
    """Everything that the labels depend on."""

    model: dict[str, Any]  # identity of the labeller
    images: str  # digest of the image names, in order
    num_images: int
    images_per_shard: int
    extraction: dict[str, Any] = field(default_factory=dict)  # {}: of an earlier version

    @classmethod
    def of(
        cls,
        model: dict[str, Any],
        images: ImageList,
        images_per_shard: int,
        extraction: dict[str, Any],
    ) -> RunIdentity:
        """Identify a run.

        Args:
            model: identity of what labels the images.
            images: in their order.
            images_per_shard: size of a shard.
            extraction: how the networks run; it changes the last bits of what they compute.
        """
        digest = hashlib.sha256('\n'.join(images.names).encode()).hexdigest()
        return cls(model, digest, len(images.names), images_per_shard, extraction)

    def claim(self, folder: Place, images: ImageList) -> bool:
        """Write `run.json` into a fresh folder, or check that it is this run's.

        Args:
            folder: of the labels.
            images: the list that this identity was made from.

        Returns:
            Whether the folder was fresh.

        Raises:
            RunMismatch: the folder belongs to another run; the message says what differs.
        """
        stats, run = stat_images(images), folder / 'run.json'
        is_fresh = not run.is_file()
        if is_fresh and any(folder.glob('labels-*.parquet')):
            raise RunMismatch(f'{folder} must have a run.json next to its labels, has none')
        # Of parts that begin at the same moment, one is the first.
        is_fresh = is_fresh and write_first(run, _encoded({'identity': vars(self)}))
        if not is_fresh:
            before = read_image_stats(folder / 'images.arrow')
            theirs = self._check(folder, before, stats)
            if theirs.extraction and before is not None and not is_copy(before, stats):
                return False
            write_whole(run, _encoded({'identity': vars(self)}))
        write_image_stats(folder / 'images.arrow', stats)
        return is_fresh

    def _check(self, folder: Place, before: ImageStats | None, stats: ImageStats) -> RunIdentity:
        theirs, others = read_run(folder / 'run.json'), []
        if before is not None:
            others = describe_changes(before, stats)
        elif theirs.num_images != self.num_images:
            others = [f'{theirs.num_images} -> {self.num_images} images']
        elif theirs.images != self.images:
            others = ['the names of the images']
        compared = ('model', 'extraction') if theirs.extraction else ('model',)
        then, now = ({key: getattr(run, key) for key in compared} for run in (theirs, self))
        require_same_run(folder, 'labels', then, now, _REMEDY, others)
        return theirs

    def record_counts(self, folder: Place, counts: dict[str, int]) -> None:
        """Add what was done to `run.json`."""
        write_whole(folder / 'run.json', _encoded({'identity': vars(self), 'counts': counts}))


@contextmanager
def given_up_on_failure(folder: Place, is_ours_alone: bool) -> Iterator[None]:
    """Remove the claim on a folder if the run fails before any image of it is labelled.

    So a config that is wrong in what only a worker finds out can be corrected in the same folder.
    The claim on a bucket stays.

    Args:
        folder: of the labels.
        is_ours_alone: whether this call made the claim, and no other part of the run relies on it.
    """
    try:
        yield
    except Exception:
        if is_ours_alone and isinstance(folder, Path) and not any(folder.glob('labels-*.parquet')):
            for name in ('run.json', 'images.arrow'):
                (folder / name).unlink(missing_ok=True)
        raise


def read_run(path: Place) -> RunIdentity:
    """Read a `run.json` of this format or an earlier one.

    Raises:
        RunMismatch: of a later format, or none of ours.
    """
    try:
        content = json.loads(path.read_text(encoding='utf-8'))
    except (ValueError, RecursionError) as error:
        raise RunMismatch(f'{path} must be the run.json of a label store: {error}') from error
    found = content.get('format', 1) if isinstance(content, dict) else None
    if isinstance(found, int) and found > FORMAT:
        raise RunMismatch(
            f'{path} must have a format up to {FORMAT}, it has {found}; a later version of '
            'cuts3d_mm wrote it, which is needed to go on'
        )
    identity: Any = content.get('identity') if isinstance(content, dict) else None
    try:
        identity.setdefault('extraction', {})
        run = RunIdentity(**{key: identity[key] for key in RunIdentity.__annotations__})
    except (TypeError, KeyError, AttributeError) as error:
        raise RunMismatch(f'{path} must be the run.json of a label store, it is not') from error
    if not isinstance(run.images_per_shard, int) or run.images_per_shard < 1:
        raise RunMismatch(f'{path} must have images_per_shard above 0, it has not')
    if not _is_extraction(run.extraction):
        raise RunMismatch(f'{path} must have extraction with a batch_size above 0, it has not')
    return replace(run, model=_completed(run.model))


def _is_extraction(value: Any) -> bool:
    """Whether a run says how its networks ran, or nothing about it."""
    if not isinstance(value, dict):
        return False
    size = value.get('batch_size', 1)
    return isinstance(size, int) and not isinstance(size, bool) and size >= 1


def _completed(model: Any) -> Any:
    try:
        return resolve_config(model)
    except ValueError:  # an argument that there is no longer: then they differ
        return model


def _encoded(content: dict[str, Any]) -> bytes:
    content = {'format': FORMAT, 'versions': _versions(), **content}
    return json.dumps(content, indent=1, sort_keys=True).encode() + b'\n'


def _versions() -> dict[str, str]:
    found = {'cuts3d_mm': __version__}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


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


@dataclass(frozen=True)
class ImageStats:
    """Files in the order of their names."""

    names: tuple[str, ...]
    size: NDArray[np.int64]  # (N,) bytes; -1: there was no file
    mtime_ns: NDArray[np.int64]  # (N,) of the last change


def write_image_stats(path: Place, stats: ImageStats) -> None:
    """Write the file; about 20 bytes per image."""
    columns = [pa.array(stats.names, pa.string()), pa.array(stats.size), pa.array(stats.mtime_ns)]
    options = pa.ipc.IpcWriteOptions(compression='zstd')
    with open_atomically(path) as file, pa.ipc.new_file(file, _SCHEMA, options=options) as writer:
        writer.write_table(pa.Table.from_arrays(columns, schema=_SCHEMA))


def read_image_stats(path: Place) -> ImageStats | None:
    """Read the file; None where there is none or it is damaged."""
    try:
        table = pa.ipc.open_file(pa.BufferReader(path.read_bytes())).read_all()
        table.validate(full=True)
        columns = [table[name].to_numpy() for name in ('size', 'mtime_ns')]
        return ImageStats(tuple(table['name'].to_pylist()), *columns)
    except (OSError, ValueError, KeyError, pa.ArrowException):
        return None
