"""Draw shares of COCO's training labels, to fine-tune detectors on few labels."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

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
    are; only the choice of images changes. The files get the names that CutLER's files have.

    Returns:
        Numbers of images and objects in each file.
    """
    path = require(src / 'annotations' / _NAME, 'COCO annotations')
    ids = [image['id'] for image in _items(path, 'images', 'id')]
    order = np.random.default_rng(_SEED).permutation(len(ids))
    rank = {ids[index]: place for place, index in enumerate(order.tolist())}
    head = json.dumps({'categories': list(_items(path, 'categories', 'id'))})[:-1].encode()
    parts = {'images': _ranked(path, 'images', 'id', rank)}
    parts['annotations'] = _ranked(path, 'annotations', 'image_id', rank)
    dst.mkdir(parents=True, exist_ok=True)
    counts = {}
    for percent in PERCENTS:
        num_images, num_written = round(len(rank) * percent / 100), list[int]()
        target = dst / f'{percent}perc_{_NAME}'
        with open_atomically(target) as file:
            file.write(head)
            for part, lines in parts.items():
                kept = [line for place, line in lines if place < num_images]
                file.write(f',\n"{part}": ['.encode())
                file.write(b'\n' * bool(kept) + b',\n'.join(kept) + b']')
                num_written.append(len(kept))
            file.write(b'}\n')
        counts[target] = num_written[0], num_written[1]
    return counts


def _ranked(path: Path, part: str, key: str, rank: Mapping[int, int]) -> list[tuple[int, bytes]]:
    """Read the entries of a list as JSON, each with the place of its image in the random order."""
    lines = []
    for one in _items(path, part, key):
        if one[key] not in rank:
            raise ValueError(f'{path}: {key} of {part} must be an image id, got {one[key]}')
        lines.append((rank[one[key]], json.dumps(one).encode()))
    return lines


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
