"""What a COCO JSON of masks must hold, checked slowly with the standard library alone."""

from __future__ import annotations

import base64
import json
import math
import zlib
from collections.abc import Collection
from typing import Any

MAX_PIXELS = 178_956_970
MAX_BYTES = 2**20


class Wrong(Exception):
    pass


def require(holds: object) -> None:
    if not holds:
        raise Wrong


def is_sound(content: bytes, needs: Collection[str]) -> bool:
    """Whether a file may be used where `confidence`, `names`, `masks` or `areas` are needed."""
    try:
        document = json.loads(content.decode('utf-8-sig'), object_pairs_hook=_unique)
        _check(document, needs)
    except (Wrong, ValueError, KeyError, TypeError, RecursionError, zlib.error, AttributeError):
        return False
    return True


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    require(len(dict(pairs)) == len(pairs))
    return dict(pairs)


def _is_int(value: Any, low: int, high: int) -> bool:
    return type(value) is int and low <= value <= high


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and math.isfinite(value) and abs(value) <= 2**24


def _check(document: Any, needs: Collection[str]) -> None:
    images = {}
    for image in document['images']:
        require(_is_int(image['id'], -(2**53), 2**53) and image['id'] not in images)
        require(type(image['file_name']) is str and image['file_name'])
        height, width = image['height'], image['width']
        require(_is_int(height, 1, MAX_PIXELS) and _is_int(width, 1, MAX_PIXELS))
        require(height * width <= MAX_PIXELS)
        images[image['id']] = image, []
    names = [image['file_name'] for image, _ in images.values()]
    require('names' not in needs or len(set(names)) == len(names))
    ids = set()
    for one in document['annotations']:
        require(_is_int(one['id'], -(2**53), 2**53) and one['id'] not in ids)
        ids.add(one['id'])
        images[one['image_id']][1].append(one)
        _check_annotation(one, needs)
    for image, found in images.values():
        image_hw = image['height'], image['width']
        sizes = {
            tuple(o['segmentation']['size']) for o in found if type(o['segmentation']) is dict
        }
        require(sizes <= {image_hw} or sizes == {image_hw[::-1]})
        for one in found:
            _check_mask(one['segmentation'], image_hw)


def _check_annotation(one: Any, needs: Collection[str]) -> None:
    require(
        len(one['bbox']) == 4 and all(map(_is_number, one['bbox'])) and min(one['bbox'][2:]) >= 0
    )
    require(one.get('iscrowd', 0) in (0, 1))
    require(one.get('segmentation') or 'masks' not in needs or one.get('iscrowd'))
    require(_is_number(one.get('score', 1)) and 0 <= one.get('score', 1) <= 1)
    area = one.get('area')
    require(area is None or (type(area) in (int, float) and 0 <= area < math.inf))
    require(area is not None or 'areas' not in needs)
    stored = one.get('confidence')
    if stored is None or 'confidence' not in needs:
        return
    (rows, columns), (left, top, width, height) = stored['grid_hw'], stored['crop_xywh']
    require(all(_is_int(v, 0, 2**15 - 1) for v in (rows, columns, left, top, width, height)))
    require(rows and columns and rows * columns <= 2**22)
    require(left + width <= columns and top + height <= rows)
    unpacked = zlib.decompress(base64.b64decode(stored['values'], validate=True))
    require(len(unpacked) == width * height)
    require(_is_int(stored.get('lower_bound', 0), 0, 255))


def _check_mask(segmentation: Any, image_hw: tuple[int, int]) -> None:
    pixels = image_hw[0] * image_hw[1]
    if type(segmentation) is list:
        require(segmentation)
        for polygon in segmentation:
            require(len(polygon) >= 6 and len(polygon) % 2 == 0 and all(map(_is_number, polygon)))
        return
    counts = segmentation['counts']
    runs = _unpack(counts) if type(counts) is str else counts
    require(type(runs) is list and all(_is_int(run, 0, pixels) for run in runs))
    require(sum(runs) == pixels)


def _unpack(code: str) -> list[int]:
    runs: list[int] = []
    number = shift = 0
    for character in code:
        digit = ord(character) - 48
        require(0 <= digit < 64)
        number |= (digit & 31) << shift
        shift += 5
        if digit & 32:
            continue
        if digit & 16:
            number -= 1 << shift
        runs.append(number + runs[-2] if len(runs) > 2 else number)
        number = shift = 0
    require(shift == 0)
    return runs
