"""Give entries of annotation files COCO's form where a tool wrote them otherwise but plainly."""

from __future__ import annotations

import hashlib
import math
import re
from contextlib import suppress
from typing import Any

_NUMBER = re.compile(r'[-+]?[0-9]{1,15}(?:\.0*)?')  # an id as text; others are words
_WORDS = 2**52  # ids that are words become numbers from here on down
_UNNUMBERED = 2**51  # and annotations without an id from here on down
_INTEGERS = ('id', 'image_id', 'category_id', 'iscrowd', 'ignore', 'height', 'width')
_OPTIONAL = ('area', 'score', 'iscrowd', 'ignore', 'bbox', 'segmentation', 'category_id')


def in_plain_form(part: str, position: int, value: Any) -> Any:
    """Rewrite an entry of which COCO's own readers would take one meaning.

    Whole numbers may be written as floats or text, and ids as words; an annotation may lack its
    id; what is optional may be null or empty; a polygon may stand without a list around it, or
    be a list of points; a negative area, which tools write for "not known", is left out. What is
    wrong stays as it is.
    """
    if not isinstance(value, dict):
        return value
    entry = {k: v for k, v in value.items() if k not in _OPTIONAL or v not in (None, [], '')}
    for key in _INTEGERS:
        if key in entry:
            entry[key] = _integer(entry[key], is_id=key.endswith('id'))
    if part != 'annotations':
        return entry
    entry.setdefault('id', -_UNNUMBERED - position)
    if not isinstance(entry.get('category_id', 0), int):
        del entry['category_id']
    for key in ('area', 'score'):
        if key in entry:
            entry[key] = _number(entry[key])
    if isinstance(entry.get('area'), float | int) and entry['area'] < 0:
        del entry['area']
    if isinstance(entry.get('bbox'), list):
        entry['bbox'] = _box([_number(one) for one in entry['bbox']])
    if 'segmentation' in entry:
        entry['segmentation'] = _mask(entry['segmentation'])
    return entry


def _integer(value: Any, is_id: bool) -> Any:
    is_word = is_id and isinstance(value, str) and not _NUMBER.fullmatch(value)
    number = value if is_word else _number(value)
    if isinstance(number, float) and number.is_integer():
        return int(number)
    if is_id and isinstance(number, str) and number:
        digest = hashlib.sha256(number.encode('utf-8', 'surrogatepass')).digest()
        return -_WORDS - int.from_bytes(digest[:6], 'big')
    return number


def _number(value: Any) -> Any:
    """Read a number that is written as text."""
    if not isinstance(value, str):
        return value
    with suppress(ValueError):
        return int(value)
    with suppress(ValueError):
        number = float(value)
        return number if math.isfinite(number) else value
    return value


def _box(box: list[Any]) -> list[Any]:
    """Make a box with a negative side one that contradicts every mask, and covers nothing."""
    sides = box[2:4]
    if len(box) == 4 and all(isinstance(one, int | float) for one in box) and min(sides) < 0:
        return [box[0], box[1], 0, 0]
    return box


def _mask(mask: Any) -> Any:
    if isinstance(mask, dict) and isinstance(mask.get('size'), list):
        return {**mask, 'size': [_integer(one, is_id=False) for one in mask['size']]}
    if not isinstance(mask, list):
        return mask
    if all(not isinstance(one, list) for one in mask):
        mask = [mask]
    return [_polygon(one) for one in mask]


def _polygon(polygon: Any) -> Any:
    if not isinstance(polygon, list):
        return polygon
    if polygon and all(isinstance(point, list) and len(point) == 2 for point in polygon):
        polygon = [one for point in polygon for one in point]
    return [_number(one) for one in polygon]
