"""Draw shares of COCO's training labels, to fine-tune detectors on few labels."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from cuts3d_mm.files.atomic import open_atomically
from cuts3d_mm.labels.coco_json import read_entries

from .conversion import require

PERCENTS = (1, 2, 5, 10, 20, 30, 40, 50, 60, 80)  # CutLER's; all of COCO is the file itself
LAYOUT = 'annotations/instances_train2017.json; OUT gets {1,2,...,80}perc_instances_train2017.json'
_SEED = 42  # the usual seed in semi-supervised detection; the images differ from CutLER's
_NAME = 'instances_train2017.json'


def write_shares(src: Path, dst: Path) -> dict[Path, tuple[int, int]]:
    """Write a file for each of `PERCENTS` with that share of the images, drawn at random.

    Each share holds all smaller shares. Images, annotations and the 80 categories stay as they
    are; only the choice of images changes.

    Args:
        src: folder of COCO, with `annotations/instances_train2017.json`.
        dst: folder for the files, which get the names that CutLER's files have.

    Returns:
        Numbers of images and objects in each file.
    """
    path = require(src / 'annotations' / _NAME, 'COCO annotations')
    ids = [image['id'] for image in _items(path, 'images', 'id')]
    order = np.random.default_rng(_SEED).permutation(len(ids))
    rank = {ids[index]: place for place, index in enumerate(order.tolist())}
    dst.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        shares = []
        for percent in PERCENTS:
            target = dst / f'{percent}perc_{_NAME}'
            file = stack.enter_context(open_atomically(target))
            shares.append(_Share(target, file, round(len(rank) * percent / 100)))
        head = json.dumps({'categories': list(_items(path, 'categories', 'id'))})[:-1].encode()
        for share in shares:
            share.file.write(head)
        for part, key in (('images', 'id'), ('annotations', 'image_id')):
            _write_part(part, _with_places(path, part, key, rank), shares)
        for share in shares:
            share.file.write(b'}\n')
    return {share.path: (share.counts['images'], share.counts['annotations']) for share in shares}


@dataclass
class _Share:
    path: Path
    file: BinaryIO
    num_images: int
    counts: Counter[str] = field(default_factory=Counter)


def _write_part(part: str, items: Iterable[tuple[int, Any]], shares: list[_Share]) -> None:
    """Write each item to the shares that hold its image, by the place of the image."""
    for share in shares:
        share.file.write(f',\n"{part}": ['.encode())
    for place, item in items:
        line = json.dumps(item).encode()
        for share in shares:
            if place < share.num_images:
                share.file.write((b',\n' if share.counts[part] else b'\n') + line)
                share.counts[part] += 1
    for share in shares:
        share.file.write(b']')


def _with_places(
    path: Path, part: str, key: str, rank: Mapping[int, int]
) -> Iterator[tuple[int, Any]]:
    """Read the entries of a list, each with the place of its image in the random order."""
    for one in _items(path, part, key):
        if one[key] not in rank:
            raise ValueError(f'{path}: {key} of {part} must be an image id, got {one[key]}')
        yield rank[one[key]], one


def _items(path: Path, part: str, key: str) -> Iterator[dict[str, Any]]:
    """Read the entries of a list at the top of a file, each with a number under `key`."""
    try:
        for entry in read_entries(path, (part,)):
            item = entry.read(dict)
            if type(item.get(key)) is not int:
                raise ValueError(f'{entry.where} must be an object whose {key} is an integer')
            yield item
    except ValueError as error:
        raise ValueError(f'{path}: {error}') from error
