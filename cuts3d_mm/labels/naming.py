"""Keep the groups of instances and what was done to them, and give instances their classes."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from cuts3d_mm.arrays import Float, Index, Mask
from cuts3d_mm.files.atomic import write_whole

from .record import ImageRecord

GROUPS_FILE, NAMES_FILE, VECTORS_FILE = 'groups.json', 'names.json', 'vectors.npy'
_MAX_NAME = 100  # characters
_FORMS = (  # keys of each operation
    {'name', 'as'},
    {'merge', 'into'},
    {'split', 'members'},
    {'drop'},
    {'move', 'into'},
)
Operation = dict[str, Any]
Member = tuple[str, int]  # name of the image, index of the instance in it


@dataclass(frozen=True)
class StoredGroups:
    """The groups of all N instances of labels, in the order of the images."""

    images: tuple[tuple[str, int], ...]  # name and number of instances
    group: Index  # (N,); -1: no group, as the image could not be read
    distance: Float  # (N,) smallest for the most typical instance of a group
    is_sure: Mask  # (N,)
    labels: str  # digest of the labels, see `LabelsDigest`

    @cached_property
    def members(self) -> tuple[Member, ...]:
        """Image and index of each instance."""
        return tuple((name, index) for name, count in self.images for index in range(count))

    @cached_property
    def places(self) -> Mapping[Member, int]:
        """Where in the arrays each instance is."""
        return {member: place for place, member in enumerate(self.members)}

    def write(self, path: Path) -> None:
        """Write `groups.json`, a list of numbers for each image."""
        bounds = np.cumsum([0, *(count for _, count in self.images)])
        rows = [
            {
                'name': name,
                'group': self.group[start:end].tolist(),
                'distance': np.round(self.distance[start:end].astype(np.float64), 4).tolist(),
                'sure': self.is_sure[start:end].tolist(),
            }
            for (name, _), start, end in zip(self.images, bounds[:-1], bounds[1:], strict=True)
        ]
        lines = ',\n'.join(map(json.dumps, rows))
        write_whole(path, f'{{"labels": "{self.labels}", "images": [\n{lines}]}}\n')

    @classmethod
    def read(cls, path: Path) -> StoredGroups:
        """Read `groups.json`.

        Raises:
            ValueError: it is not such a file.
        """
        try:
            content = json.loads(path.read_bytes())
            rows, keys = content['images'], ('group', 'distance', 'sure')
            columns = [[value for row in rows for value in row[key]] for key in keys]
            group = np.array(columns[0], np.int64)
            distance, is_sure = np.array(columns[1], np.float32), np.array(columns[2], bool)
            images = tuple((str(row['name']), len(row['group'])) for row in rows)
            if not len(group) == len(distance) == len(is_sure) or group.min(initial=0) < -1:
                raise ValueError('each instance must have a group, a distance and sure')
            return cls(images, group, distance, is_sure, str(content['labels']))
        except _WRONG as error:
            raise ValueError(
                f'{path} must be what cuts3d group writes, run it again: {error}'
            ) from error


_WRONG = OSError, ValueError, TypeError, LookupError, OverflowError, RecursionError


class LabelsDigest:
    """Digest of the instances of labels: their images and masks."""

    def __init__(self) -> None:
        self._hash, self.num_instances = hashlib.sha256(), 0

    def add(self, record: ImageRecord) -> None:
        """Take the next image."""
        self.num_instances += len(record.instances)
        head = json.dumps([record.name, record.image_hw, len(record.instances)])
        parts = [head.encode(), *(instance.rle for instance in record.instances)]
        self._hash.update(b'\n'.join(parts) + b'\n')

    def __str__(self) -> str:
        return self._hash.hexdigest()[:32]


@dataclass(frozen=True)
class Naming:
    """What operations have made of groups."""

    group: Index  # (N,) present group of each instance
    names: Mapping[int, str]  # group -> class
    dropped: frozenset[int]  # groups that hold no objects

    @property
    def classes(self) -> list[str]:
        """Classes that instances have, sorted."""
        found = map(self.class_of, np.unique(self.group).tolist())
        return sorted({name for name in found if name is not None})

    def class_of(self, group: int) -> str | None:
        """Class of a group; None for a group without a name, or that was dropped."""
        return None if group in self.dropped else self.names.get(group)


def apply(operations: Sequence[Operation], groups: StoredGroups) -> Naming:
    """Apply operations to groups, in order.

    `{"name": 3, "as": "cat"}` gives a group its class, `{"merge": 3, "into": 0}` moves all of a
    group, `{"move": [["a.jpg", 1]], "into": 2}` moves instances, `{"split": 3, "members":
    [["a.jpg", 1]]}` makes a new group of instances of a group, which takes the next number and
    the name, and `{"drop": 4}` says that a group holds no objects.

    Raises:
        ValueError: an operation is malformed, or names what is not there.
    """
    group, names, dropped = groups.group.copy(), dict[int, str](), set[int]()
    num_groups = int(group.max(initial=-1)) + 1
    for number, operation in enumerate(operations):
        try:
            keys = set(operation) if isinstance(operation, dict) else set()
            if keys not in _FORMS:
                raise ValueError(f'must be one of {", ".join(map(_shown, _FORMS))}')
            used = {'name', 'merge', 'split', 'drop', 'into'} & keys
            for one in (operation[key] for key in used):
                if type(one) is not int or not 0 <= one < num_groups or one not in group:
                    raise ValueError(f'must name a group that has instances, got {one!r}')
            if 'name' in keys:
                names[operation['name']] = _checked_name(operation['as'])
                dropped.discard(operation['name'])
            elif 'drop' in keys:
                dropped.add(operation['drop'])
            elif 'merge' in keys:
                source, target = operation['merge'], operation['into']
                if source == target:
                    raise ValueError(f'must merge two groups, got {source} twice')
                group[group == source] = target
                if source in names and source not in dropped:
                    names.setdefault(target, names[source])
            elif 'move' in keys:
                group[_places(operation['move'], groups)] = operation['into']
            else:
                places, source = _places(operation['members'], groups), operation['split']
                if (group[places] != source).any() or len(places) == (group == source).sum():
                    raise ValueError(f'members must be some of group {source}, not all')
                group[places] = num_groups
                if source in names:
                    names[num_groups] = names[source]
                if source in dropped:
                    dropped.add(num_groups)
                num_groups += 1
        except ValueError as error:
            raise ValueError(f'operations[{number}] {error}') from error
    return Naming(group, names, frozenset(dropped))


def _shown(keys: set[str]) -> str:
    return '/'.join(sorted(keys, key=lambda key: key in ('as', 'into', 'members')))


def _checked_name(name: Any) -> str:
    if not isinstance(name, str) or not name.strip() or len(name) > _MAX_NAME:
        raise ValueError(f'name must have from 1 to {_MAX_NAME} characters, got {name!r}')
    if not name.isprintable():
        raise ValueError(f'name must be printable, got {name!r}')
    return name.strip()


def _places(members: Any, groups: StoredGroups) -> Index:
    found = []
    for member in members if isinstance(members, list) else [None]:
        key = tuple(member) if isinstance(member, (list, tuple)) else None
        is_plain = key is not None and [type(part) for part in key] == [str, int]
        if not is_plain or key not in groups.places:
            raise ValueError(f'must list instances as [image, index], got {member!r}')
        found.append(groups.places[key])  # type: ignore[index]
    if not found:
        raise ValueError('must list at least one instance')
    return np.unique(np.array(found, np.int64))


def read_operations(path: Path) -> list[Operation]:
    """Read the operations of `names.json`; none if there is no file yet.

    Raises:
        ValueError: it is not such a file.
    """
    if not path.exists():
        return []
    try:
        operations = json.loads(path.read_bytes())['operations']
        if not isinstance(operations, list):
            raise TypeError('operations are no list')
    except (ValueError, LookupError, TypeError, RecursionError) as error:
        raise ValueError(f'{path} must hold {{"operations": [...]}}: {error}') from error
    return operations


def write_operations(path: Path, operations: Sequence[Operation]) -> None:
    """Write `names.json`, an operation a line."""
    lines = ',\n'.join(map(json.dumps, operations))
    write_whole(path, f'{{"operations": [\n{lines}]}}\n')


def name_records(
    records: Iterable[ImageRecord], groups: StoredGroups, naming: Naming
) -> Iterator[ImageRecord]:
    """Give instances their classes; those without a class are left out.

    Raises:
        ValueError: the labels are not those that were grouped; at their end at the latest.
    """
    digest = LabelsDigest()
    for record in records:
        start = digest.num_instances
        digest.add(record)
        present = naming.group[start : digest.num_instances].tolist()
        pairs = zip(record.instances, map(naming.class_of, present), strict=False)
        kept = tuple(replace(one, category=name) for one, name in pairs if name is not None)
        yield replace(record, instances=kept)
    require_labels(digest, groups)


def require_labels(digest: LabelsDigest, groups: StoredGroups) -> None:
    """Check that labels are those that were grouped.

    Raises:
        ValueError: they are others.
    """
    if str(digest) != groups.labels or digest.num_instances != len(groups.group):
        raise ValueError(
            'LABELS must be those that were grouped, these have other images or masks; run cuts3d '
            'group again'
        )
