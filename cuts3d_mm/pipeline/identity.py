"""Tell whether a run goes on with the same labeller and the same images."""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from cuts3d_mm import __version__
from cuts3d_mm.files.atomic import open_atomically, write_first, write_whole
from cuts3d_mm.files.paths import is_inside
from cuts3d_mm.files.remote import BucketPath, ObjectInfo, Place, map_files
from cuts3d_mm.files.stored_run import RunMismatch, require_same_run
from cuts3d_mm.images.listing import ImageList
from cuts3d_mm.images.reading import ImageFailure, digest_file, open_named_image
from cuts3d_mm.labellers.registry import resolve_config
from cuts3d_mm.labels.store import (
    DamagedShard,
    RunMark,
    ShardSize,
    digest_of_names,
    read_mark,
    read_table,
)

FORMAT = 3  # 3: shards say which run they belong to, and what files their images were
_PACKAGES = ('torch', 'numpy', 'scipy', 'numba', 'pillow', 'mmpretrain', 'onedl-mmpretrain')
_THREADS = 16  # a network file system answers many questions at a time
_NAMES_PER_TASK = 4096
_SHOWN = 3  # images that a message names
NO_FILE = -1
_REMEDY = (
    'choose another OUT, or the same images and settings, --exclude, --limit, --precision, '
    '--cut-on and --batch-size included'
)
_SCHEMA = pa.schema([('name', pa.string()), ('size', pa.int64()), ('mtime_ns', pa.int64())])


@dataclass(frozen=True)
class RunIdentity:
    """Everything that the labels depend on."""

    model: dict[str, Any]  # identity of the labeller
    images: str  # digest of the image names, in order
    num_images: int
    images_per_shard: ShardSize
    extraction: dict[str, Any] = field(default_factory=dict)  # {}: of an earlier version

    @property
    def mark(self) -> RunMark:
        """What each shard of the run says of it."""
        return RunMark(
            _checksum(vars(self)), self.num_images, self.images_per_shard, self.extraction
        )

    @classmethod
    def of(
        cls,
        model: dict[str, Any],
        images: ImageList,
        images_per_shard: ShardSize,
        extraction: dict[str, Any],
    ) -> RunIdentity:
        """Identify a run; how its networks run changes the last bits of what they compute."""
        digest = digest_of_names(images.names)
        return cls(_placeless(model), digest, len(images.names), images_per_shard, extraction)

    def claim(self, folder: Place, images: ImageList) -> tuple[StoredRun, bool]:
        """Write `run.json` into a fresh folder, or check that it is this run's.

        Args:
            images: the list that this identity was made from.

        Returns:
            The run as the folder has it, and whether the folder was fresh.

        Raises:
            RunMismatch: the folder belongs to another run; the message says what differs.
        """
        stats, path = stat_images(images), folder / 'run.json'
        before = read_image_stats(folder / 'images.arrow')
        is_fresh, run = not path.is_file(), StoredRun(self, FORMAT, self.mark)
        if is_fresh and any(folder.glob('labels-*.parquet')):
            raise RunMismatch(f'{folder} must have a run.json next to its labels, has none')
        # Of parts that begin at the same moment, one is the first.
        is_fresh = is_fresh and write_first(path, run.encoded())
        if not is_fresh:
            stored = read_run(folder)
            self._check(folder, stored, find_changes(folder, images, before, stats))
            run = StoredRun(self, max(stored.format, 2), stored.mark)
            if not (stored.is_whole and stored.identity.extraction):
                write_whole(path, run.encoded())
        if before is None or not _is_same(before, stats):
            write_image_stats(folder / 'images.arrow', stats)
        return run, is_fresh

    def _check(self, folder: Place, stored: StoredRun, others: list[str] | None) -> None:
        theirs = stored.identity
        if not stored.is_whole:
            if stored.mark != self.mark:
                others = [*(others or ()), 'the run that its shards name (run.json is damaged)']
            theirs = self
        elif others is None and theirs.num_images != self.num_images:
            others = [f'{theirs.num_images} -> {self.num_images} images']
        elif others is None and theirs.images != self.images:
            others = ['the names of the images']
        compared = ('model', 'extraction') if theirs.extraction else ('model',)
        then, now = ({key: getattr(run, key) for key in compared} for run in (theirs, self))
        require_same_run(folder, 'labels', then, now, _REMEDY, others or ())


@dataclass(frozen=True)
class StoredRun:
    """The run of a label store, as its `run.json` has it."""

    identity: RunIdentity
    format: int  # that the store began with
    mark: RunMark | None  # of each shard; None: in formats 1 and 2, whose shards have none
    is_whole: bool = True  # False: only what the shards say is known, `run.json` is damaged

    def encoded(self, counts: dict[str, int] | None = None) -> bytes:
        """Encode `run.json`, with counts of what was done."""
        content = {'format': self.format, 'versions': _versions(), 'identity': vars(self.identity)}
        if counts is not None:
            content['counts'] = counts
        if self.mark is not None:
            content['run'] = self.mark.run
            content['checksum'] = _checksum(content)
        return json.dumps(content, indent=1, sort_keys=True).encode() + b'\n'


@contextmanager
def given_up_on_failure(folder: Place, is_ours_alone: bool) -> Iterator[None]:
    """Remove the claim on a folder if the run fails before any image of it is labelled.

    So a config that is wrong in what only a worker finds out can be corrected in the same folder.
    The claim on a bucket stays.

    Args:
        is_ours_alone: whether this call made the claim, and no other part of the run relies on it.
    """
    try:
        yield
    except Exception:
        if is_ours_alone and isinstance(folder, Path) and not any(folder.glob('labels-*.parquet')):
            for name in ('run.json', 'images.arrow'):
                (folder / name).unlink(missing_ok=True)
        raise


def find_run(folder: Place) -> StoredRun | None:
    """Read the run of a store as `read_run` does; None where none has begun."""
    return read_run(folder) if (folder / 'run.json').is_file() else None


def read_run(folder: Place) -> StoredRun:
    """Read the `run.json` of a store, of this format or an earlier one.

    If it is damaged, the shards say the digest of the run, how many images it has, and how its
    networks run.

    Raises:
        RunMismatch: of a later format; or damaged or none of ours, and no shard says a run.
    """
    path = folder / 'run.json'
    try:
        return _parse_run(path)
    except _DamagedRun as damage:
        for shard in folder.glob('labels-*.parquet'):
            with suppress(DamagedShard):
                mark = read_mark(shard)
                if mark is not None:
                    logging.getLogger(__name__).warning(f'{damage}; made again from the shards')
                    found = RunIdentity(
                        {}, '', mark.num_images, mark.images_per_shard, mark.extraction
                    )
                    return StoredRun(found, FORMAT, mark, is_whole=False)
        raise


class _DamagedRun(RunMismatch):
    """A `run.json` that holds no run."""


def _parse_run(path: Place) -> StoredRun:
    try:
        content = json.loads(path.read_text(encoding='utf-8'))
    except (ValueError, RecursionError) as error:
        raise _DamagedRun(f'{path} must be the run.json of a label store: {error}') from error
    found = content.get('format', 1) if isinstance(content, dict) else None
    if not isinstance(found, int):
        raise _DamagedRun(f'{path} must be the run.json of a label store, it is not')
    if found > FORMAT:
        raise RunMismatch(
            f'{path} must have a format up to {FORMAT}, it has {found}; a later version of '
            'cuts3d_mm wrote it, which is needed to go on'
        )
    identity: Any = content.get('identity')
    try:
        said = content.pop('checksum', None)
        if (said is not None or found == FORMAT) and said != _checksum(content):
            raise _DamagedRun(f'{path} must have the checksum that it was written with')
        identity.setdefault('extraction', {})
        run = RunIdentity(**{key: identity[key] for key in RunIdentity.__annotations__})
    except (TypeError, KeyError, AttributeError) as error:
        raise _DamagedRun(f'{path} must be the run.json of a label store, it is not') from error
    size = run.images_per_shard
    sizes = size if isinstance(size, list) else [size]
    if not sizes or not all(isinstance(one, int) and one > 0 for one in sizes):
        raise RunMismatch(f'{path} must have images_per_shard above 0, it has not')
    batch = run.extraction.get('batch_size', 1) if isinstance(run.extraction, dict) else None
    if not isinstance(batch, int) or isinstance(batch, bool) or batch < 1:
        raise RunMismatch(f'{path} must have extraction with a batch_size above 0, it has not')
    mark = None if found != FORMAT else replace(run.mark, run=content['run'])
    model: Any = run.model
    with suppress(ValueError):  # an argument that there is no longer: then they differ
        model = resolve_config(model)
    return StoredRun(replace(run, model=_placeless(model)), found, mark)


def _placeless(model: Any) -> Any:
    """Leave out where the weights of a labeller lie, if their digest is known."""
    if not isinstance(model, dict) or model.get('weights_sha256') is None:
        return model
    return {key: value for key, value in model.items() if key != 'checkpoint'}


def _checksum(content: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _versions() -> dict[str, str]:
    found = {'cuts3d_mm': __version__}
    for package in _PACKAGES:
        with suppress(PackageNotFoundError):
            found[package] = version(package)
    return found


def stat_images(images: ImageList) -> ImageStats:
    """Read size and time of every image file."""
    names = images.names
    if isinstance(images.root, BucketPath):
        found = images.root.list_files(recursive=True)  # a thousand with each request
        missing = ObjectInfo(NO_FILE, 0)
        objects = (found.get(name, missing) for name in names)
        rows = [(one.st_size, one.st_mtime_ns) for one in objects]
        return ImageStats(names, np.array(rows, np.int64).reshape(-1, 2))
    starts = range(0, len(names), _NAMES_PER_TASK)
    parts = [names[start : start + _NAMES_PER_TASK] for start in starts]
    with ThreadPoolExecutor(_THREADS) as pool:
        return ImageStats(
            names, np.concatenate(list(pool.map(partial(_stat, os.fspath(images.root)), parts)))
        )


def _stat(root: str, names: Sequence[str]) -> NDArray[np.int64]:
    """Size and time of each file, (N, 2)."""
    rows = np.full((len(names), 2), (NO_FILE, 0), np.int64)
    for row, name in zip(rows, names, strict=True):
        with suppress(OSError):  # labelling says why
            if is_inside(name):
                found = os.stat(os.path.join(root, name))
                row[:] = found.st_size, found.st_mtime_ns
    return rows


def find_changes(
    folder: Place, images: ImageList, before: ImageStats | None, now: ImageStats
) -> list[str] | None:
    """Name the images of a store that were added, removed or changed since they were labelled.

    A file of another size or time is compared by the digest that its labels have. In a store of
    an earlier version, which has none, a copied folder is known by other times throughout.

    Args:
        before: sizes and times of the files of the run up to now; None: not known.
        now: sizes and times of the files of `images`.

    Returns:
        What differs, in words, nothing if all is as it was; None if neither `before` nor the
        labels say it.
    """
    if before is not None and _is_same(before, now):
        return []
    then: dict[str, tuple[int, int]] = {} if before is None else before.by_name()
    current = now.by_name()
    digests, known = _stored_digests(folder), then if before is not None else current
    differing = [
        name
        for name, found in current.items()
        if name in digests and name in known and then.get(name) != found
    ]
    if before is None or _is_copy(before, now):
        differing = [name for name in differing if digests[name] is not None]
    with ThreadPoolExecutor(_THREADS) as pool:
        is_same = pool.map(
            lambda name: digests[name] is not None and digests[name] == _digest(images.root, name),
            differing,
        )
        changed = [
            f'{name} ({_change(then.get(name), current[name])})'
            for name, same in zip(differing, is_same, strict=True)
            if not same
        ]
    if before is None:
        return [_listed(changed, 'changed')] if changed else None
    more = [name for name in current if name not in then]
    fewer = [name for name in then if name not in current]
    parts = (_listed(more, 'more'), _listed(fewer, 'fewer'), _listed(changed, 'changed'))
    return [part for part in parts if part]


def accept_changes(folder: Path, root: Place) -> None:
    """Take the images of all stores in a folder as they are now; labels that are there stay.

    Args:
        folder: folder of the stores.
        root: folder of the images.
    """
    for path in sorted(folder.rglob('images.arrow')):
        before = read_image_stats(path)
        if before is not None:
            write_image_stats(path, stat_images(ImageList(root, before.names)))


def _stored_digests(folder: Place) -> dict[str, bytes | None]:
    """Read the digests of the files that whole shards were made of; None in older stores."""

    def read(shard: Place) -> list[dict[str, Any]]:
        with suppress(DamagedShard):
            return read_table(shard, ['name', 'digest']).to_pylist()
        return []

    rows = chain.from_iterable(map_files(read, list(folder.glob('labels-*.parquet'))))
    return {row['name']: row.get('digest') for row in rows}


def _digest(root: Place, name: str) -> bytes | None:
    with suppress(ImageFailure), open_named_image(root, name) as file:
        return digest_file(file)
    return None


def _is_copy(before: ImageStats, now: ImageStats) -> bool:
    """Tell whether the same files lie there as a copy: other times for all, the same sizes."""
    if before.names != now.names or (before.size != now.size).any():
        return False
    return bool((before.files[:, 1] != now.files[:, 1]).all())


def _is_same(before: ImageStats, now: ImageStats) -> bool:
    return before.names == now.names and np.array_equal(before.files, now.files)


def _listed(names: Sequence[str], what: str) -> str:
    if not names:
        return ''
    rest = f' and {len(names) - _SHOWN} others' if len(names) > _SHOWN else ''
    plural = 's' if len(names) > 1 else ''
    return f'{len(names)} image{plural} {what}: {", ".join(names[:_SHOWN])}{rest}'


def _change(then: tuple[int, int] | None, now: tuple[int, int]) -> str:
    """Say how a file changed, by size and time of the last change before and now."""
    if then is None:
        return 'its content'
    if NO_FILE in (then[0], now[0]):
        return 'was missing' if then[0] == NO_FILE else 'is missing'
    if then[0] != now[0]:
        return f'size {then[0]} -> {now[0]} bytes'
    return f'time {_day(then[1])} -> {_day(now[1])}'


def _day(time_ns: int) -> str:
    return datetime.fromtimestamp(time_ns / 1e9).strftime('%Y-%m-%d %H:%M:%S')


@dataclass(frozen=True)
class ImageStats:
    """Files in the order of their names."""

    names: tuple[str, ...]
    files: NDArray[np.int64]  # (N, 2) bytes, -1 where there was no file; ns of the last change

    @property
    def size(self) -> NDArray[np.int64]:
        """(N,) bytes; -1: there was no file."""
        return self.files[:, 0]

    def first(self, count: int) -> ImageStats:
        """Keep the first files."""
        return ImageStats(self.names[:count], self.files[:count])

    def by_name(self) -> dict[str, tuple[int, int]]:
        """Size and time of each file."""
        return {
            name: (size, time)
            for name, (size, time) in zip(self.names, self.files.tolist(), strict=True)
        }


def write_image_stats(path: Place, stats: ImageStats) -> None:
    """Write the file; about 20 bytes per image."""
    columns = [pa.array(stats.names, pa.string()), *map(pa.array, stats.files.T)]
    options = pa.ipc.IpcWriteOptions(compression='zstd')
    with open_atomically(path) as file, pa.ipc.new_file(file, _SCHEMA, options=options) as writer:
        writer.write_table(pa.Table.from_arrays(columns, schema=_SCHEMA))


def read_image_stats(path: Place) -> ImageStats | None:
    """Read the file; None where there is none or it is damaged."""
    try:
        table = pa.ipc.open_file(pa.BufferReader(path.read_bytes())).read_all()
        table.validate(full=True)
        files = np.stack([table[name].to_numpy() for name in ('size', 'mtime_ns')], axis=1)
        return ImageStats(tuple(table['name'].to_pylist()), files)
    except (OSError, ValueError, KeyError, pa.ArrowException):
        return None
