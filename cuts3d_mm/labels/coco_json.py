"""Read COCO JSON, and check it entry by entry."""

from __future__ import annotations

import math
import re
import warnings
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any, NamedTuple, TypeVar, get_args

import msgspec
import numpy as np
from msgspec import Meta
from pycocotools import mask as coco_mask

from cuts3d_mm.algorithm.confidence import CONFIDENCE_STEPS
from cuts3d_mm.files.remote import Place

from .dialects import in_plain_form
from .left_out import (
    CROWD_REMEDY,
    Box,
    Crowd,
    Remarks,
    contradicts,
    polygon_box,
)
from .record import OLDER_LOWER_BOUND, mask_box
from .rle import MAX_CODE_BYTES, MAX_IMAGE_PIXELS, pack_runs, tidy_code

CATEGORY_ID = 1
ANY_OBJECT = 'object'  # class of instances of which no more is known
CATEGORIES = [{'id': CATEGORY_ID, 'name': ANY_OBJECT}]
# The same for MMDetection: class names and RGB colours.
DATASET_META: dict[str, Any] = {'classes': (ANY_OBJECT,), 'palette': [(220, 20, 60)]}
MAX_ID = 2**53  # floating-point numbers cannot tell larger ids apart
MAX_COORDINATE_PX = 2**24  # the same limit in 32 bits
Id = Annotated[int, Meta(ge=-MAX_ID, le=MAX_ID)]
Side = Annotated[int, Meta(ge=1, le=MAX_IMAGE_PIXELS)]
Count = Annotated[int, Meta(ge=0, le=MAX_IMAGE_PIXELS)]
Cell = Annotated[int, Meta(ge=0, le=2**15 - 1)]  # 16 bits in the store
Number = Annotated[float, Meta(ge=-MAX_COORDINATE_PX, le=MAX_COORDINATE_PX)]
Length = Annotated[float, Meta(ge=0, le=MAX_COORDINATE_PX)]
Flag = Annotated[int, Meta(ge=0, le=1)] | bool
Polygons = list[list[float]]
T = TypeVar('T')


class CocoName(msgspec.Struct, frozen=True):
    """The name of an image, for readers that need nothing else."""

    file_name: str


class CocoImage(msgspec.Struct, frozen=True):
    """An element of `images`."""

    id: Id
    file_name: Annotated[str, Meta(min_length=1, max_length=4096)]
    height: Side
    width: Side

    def __post_init__(self) -> None:
        """Check the size."""
        if self.height * self.width > MAX_IMAGE_PIXELS:
            raise ValueError(
                f'must have at most {MAX_IMAGE_PIXELS} pixels, has {self.height} x {self.width}'
            )

    @property
    def image_hw(self) -> tuple[int, int]:
        """Size in pixels."""
        return self.height, self.width


class CocoCategory(msgspec.Struct, frozen=True):
    """An element of `categories`."""

    id: Id
    name: str


class RunLengths(msgspec.Struct, frozen=True):
    """A mask as run lengths: compressed in a string, or one by one."""

    size: tuple[Side, Side]  # H, W
    counts: Annotated[str, Meta(max_length=MAX_CODE_BYTES)] | list[Count]


class StoredConfidence(msgspec.Struct, frozen=True):
    """A confidence map as `cuts3d export` writes it."""

    grid_hw: tuple[Cell, Cell]
    crop_xywh: tuple[Cell, Cell, Cell, Cell]
    values: str
    lower_bound: Annotated[int, Meta(ge=0, le=CONFIDENCE_STEPS)] = OLDER_LOWER_BOUND


class CocoAnnotation(msgspec.Struct, frozen=True):
    """An element of `annotations`, of any class."""

    id: Id
    image_id: Id
    category_id: Id | None = None
    bbox: tuple[Number, Number, Length, Length] | None = None  # x, y, width, height in pixels
    segmentation: Polygons | RunLengths | None = None
    area: Annotated[float, Meta(ge=0)] | None = None
    iscrowd: Flag = 0
    ignore: Flag = 0
    score: Annotated[float, Meta(ge=0, le=1)] = 1.0
    confidence: StoredConfidence | None = None

    def __post_init__(self) -> None:
        """Check that numbers are finite: the parser may let NaN pass, which JSON does not have."""
        if not all(map(math.isfinite, (*(self.bbox or ()), self.score, self.area or 0))):
            raise ValueError('must have finite numbers in bbox, area and score')


MAX_ENTRY_BYTES = 2**23  # bytes of JSON text; entries of COCO and LVIS have less than 2**18
_BYTE_ORDER_MARK = b'\xef\xbb\xbf'
# A string that the end of the text cuts off is one token, too: the rest is not searched again.
_TOKEN = re.compile(rb'"([^"\\]*(?:\\.[^"\\]*)*)(?:"(\s*:)?|\\?\Z)|[\[\]{},]', re.DOTALL)
_ODD_NUMBER = re.compile(rb'-?(?:NaN|Infinity)')


_NOT_DECODED = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


class Entry(NamedTuple):
    """An element of a list at the top of a file, as text."""

    part: str  # name of the list
    position: int
    text: msgspec.Raw

    @property
    def where(self) -> str:
        """Name of the entry in a message, such as `images[12]`."""
        return f'{self.part}[{self.position}]'

    def read(self, kind: type[T]) -> T:
        """Check the entry and convert it to its type; keys that the type lacks are left out.

        An entry in another form than COCO's is read as `in_plain_form` gives it.

        Raises:
            ValueError: the entry does not fit the type; the message names it and what must hold.
        """
        if memoryview(self.text).nbytes > MAX_ENTRY_BYTES:
            raise ValueError(f'{self.where} must be at most {MAX_ENTRY_BYTES} bytes long')
        try:
            return msgspec.json.decode(self.text, type=kind)
        except _NOT_DECODED as error:
            with suppress(*_NOT_DECODED):
                value = msgspec.json.decode(self.text)
                return msgspec.convert(in_plain_form(self.part, self.position, value), kind)
            raise ValueError(self.where + _describe(str(error))) from None


def _describe(message: str) -> str:
    """Turn "Expected `int`, got `str` - at `$.id`" into ".id must be int, got str"."""
    message = message.replace('`', '').replace('array', 'list')
    text, _, place = message.partition(' - at $')
    for theirs, ours in (
        ('Expected ', 'must be '),
        ('Object missing required field ', 'must have '),
        ('Number out of range', 'must be a finite number of 64 bits'),
        ('must', 'must'),
    ):
        if text.startswith(theirs):
            return f'{place} {ours}{text.removeprefix(theirs)}'
    return f'{place} is wrong: {text[:1].lower()}{text[1:]}'


def read_entries(path: Place, parts: Sequence[str]) -> Iterator[Entry]:
    """Read some lists of a JSON object, list by list; each must be there once.

    Raises:
        ValueError: the file is no JSON object with these lists. The message does not name the
            file.
    """
    if isinstance(path, Path) and path.is_char_device():  # such as /dev/zero, which has no end
        raise ValueError('must be a file, got a device')
    with path.open('rb') as file:
        content = file.read()
    start = len(_BYTE_ORDER_MARK) if content.startswith(_BYTE_ORDER_MARK) else 0
    kind = msgspec.defstruct('CocoFile', [(part, list[msgspec.Raw]) for part in parts])
    try:
        lists = msgspec.json.decode(memoryview(content)[start:], type=kind)
    except msgspec.ValidationError as error:
        raise ValueError(_describe(str(error)).lstrip(' .')) from None
    except msgspec.DecodeError as error:
        raise ValueError(_explain(str(error), content, start)) from None
    except RecursionError:
        raise ValueError('must not be nested so deep') from None
    for part in parts:
        if content.count(f'"{part}"'.encode()) > 1 and _count_keys(content, part) > 1:
            raise ValueError(f'{part!r} must be there once')
        for position, text in enumerate(getattr(lists, part)):
            yield Entry(part, position, text)


def _count_keys(content: bytes, key: str) -> int:
    """Count how often a key stands in the object at the top of a JSON text."""
    depth = count = 0
    for token in _TOKEN.finditer(content):
        depth += (token[0] in b'[{') - (token[0] in b']}')
        count += depth == 1 and token[2] is not None and token[1] == key.encode()
    return count


def _explain(message: str, content: bytes, start: int) -> str:
    """Name the place in the file where its text is no JSON."""
    text, _, number = message.removeprefix('JSON is malformed: ').partition(' (byte ')
    if not number:
        return f'must be whole JSON in UTF-8: {text[:1].lower()}{text[1:]}'
    at = start + int(number.rstrip(')'))
    place = f'{_place_of(content, at)}: got {{}} at byte {at} of the file'
    odd = _ODD_NUMBER.match(content, at - 1) or _ODD_NUMBER.match(content, at)
    if odd:
        return f'numbers must be finite, {place.format(odd[0].decode())}'
    return f'must be whole JSON in UTF-8, {place.format(text)}'


def _place_of(content: bytes, end: int) -> str:
    """Name the value at a byte of a JSON text, such as `annotations[3].area`."""
    steps: list[int | str] = []  # the index or key in each list or object that is open
    for token in _TOKEN.finditer(content, 0, end):
        mark = token[0]
        if mark in b'[{':
            steps.append(0 if mark == b'[' else '')
        elif mark in b']}':
            del steps[-1:]
        elif token[2] is not None and steps and isinstance(steps[-1], str):
            steps[-1] = token[1][:40].decode('utf-8', 'replace')
        elif mark == b',' and steps and isinstance(steps[-1], int):
            steps[-1] += 1
    names = (f'[{step}]' if isinstance(step, int) else f'.{step}' for step in steps)
    return ''.join(names).lstrip('.') or 'the beginning'


def read_annotated_images(
    path: Place, crowd: Crowd, remarks: Remarks
) -> Iterator[tuple[CocoImage, list[tuple[str, CocoAnnotation]]]]:
    """Read a COCO JSON in the order of its images; each entry is checked, not yet its mask.

    What tools write otherwise than COCO, but plainly, is read; see `in_plain_form`.
    Annotations of images that are not in the file are left out and counted.

    The files of CutLER and CuVLER give the width of an image as its height. Where all run-length
    codes of an image show it, its size is corrected, with one warning that says how many images.

    Args:
        path: file to read; its text stays in memory, its objects do not.
        crowd: 'objects' gives regions that are marked `iscrowd` as objects; with 'ignore' they
            stay crowds.
        remarks: gets the counts.

    Yields:
        An image, and its annotations with their names in messages.

    Raises:
        ValueError: the file is no COCO JSON, an entry is wrong, or every annotation is a crowd
            to ignore; the message names the file, the entry and what must hold.
    """
    if crowd not in get_args(Crowd):
        raise ValueError(f'crowd must be one of {get_args(Crowd)}, got {crowd!r}')
    images: dict[int, tuple[CocoImage, list[Entry]]] = {}
    ids, orphans, num_crowds, num_swapped = set[int](), list[Entry](), 0, 0
    try:
        for entry in read_entries(path, ('images', 'annotations')):
            is_image = entry.part == 'images'
            one: Any = entry.read(CocoImage if is_image else CocoAnnotation)
            if one.id in (images if is_image else ids):
                raise ValueError(f'{entry.where}.id must be unique, got {one.id} again')
            if is_image:
                images[one.id] = one, []
                continue
            ids.add(one.id)
            num_crowds += int(one.iscrowd)
            _, entries = images.get(one.image_id, (None, orphans))
            entries.append(entry)
        if orphans and len(orphans) == len(ids):
            where, got = f'{orphans[0].where}.image_id', orphans[0].read(CocoAnnotation).image_id
            raise ValueError(f'{where} must be the id of an image, got {got}')
    except ValueError as error:
        raise ValueError(f'{path} must be a COCO JSON: {error}') from error
    remarks.num_objects, remarks.orphans = len(ids), len(orphans)
    if crowd == 'ignore' and num_crowds and num_crowds == len(ids):
        raise ValueError(
            f'{path}: annotations must hold objects, got iscrowd in all {num_crowds}, as '
            f'CVAT writes for brush masks; {CROWD_REMEDY}'
        )
    for image, entries in images.values():
        found = [(f'{path}: {entry.where}', entry.read(CocoAnnotation)) for entry in entries]
        if crowd == 'objects':
            found = [(where, msgspec.structs.replace(one, iscrowd=0)) for where, one in found]
        masks = [one.segmentation for _, one in found]
        sizes = {mask.size for mask in masks if isinstance(mask, RunLengths)}
        if sizes - {image.image_hw}:
            if sizes != {image.image_hw[::-1]}:
                raise ValueError(
                    f'{path}: masks of {image.file_name} must have the size of their image '
                    f'{image.image_hw} (H, W), got {sorted(sizes)}'
                )
            num_swapped += 1
            image = CocoImage(image.id, image.file_name, image.width, image.height)
        yield image, found
    if num_swapped:
        message = f'{path}: width and height were swapped in {num_swapped} of {len(images)} images'
        warnings.warn(f'{message}; corrected', stacklevel=3)


MAX_POLYGONS = 4096  # for each mask; masks of COCO and LVIS have some hundreds
# Length of all outlines of a mask: pycocotools needs about 50 bytes for each pixel of it.
MAX_OUTLINE_PX = 2**20
_FEWEST_NUMBERS = 6  # three points of a polygon


def compress_mask(segmentation: Polygons | RunLengths, image_hw: tuple[int, int]) -> bytes:
    """Rasterise polygons, or check and compress run lengths.

    Raises:
        ValueError: the mask does not fit an image of this size.
    """
    if isinstance(segmentation, RunLengths):
        if segmentation.size != image_hw:
            raise ValueError(f'size must be {list(image_hw)} (H, W), got {segmentation.size}')
        counts = segmentation.counts
        if isinstance(counts, str):
            return tidy_code(counts.encode('utf-8'), image_hw)
        return pack_runs(counts, image_hw)
    _check_polygons(segmentation, image_hw)
    return mask_code(with_area(segmentation), image_hw)['counts']


def with_area(polygons: Polygons) -> Polygons:
    """Leave out polygons of fewer than three points, which cover nothing."""
    return [polygon for polygon in polygons if len(polygon) >= _FEWEST_NUMBERS]


def _check_polygons(polygons: Polygons, image_hw: tuple[int, int]) -> None:
    """Check that pycocotools can rasterise polygons."""
    if not 0 < len(polygons) <= MAX_POLYGONS:
        raise ValueError(f'must have from 1 to {MAX_POLYGONS} polygons, got {len(polygons)}')
    side = max(image_hw)
    outline_px = 0.0
    for index, polygon in enumerate(polygons):
        if len(polygon) % 2:
            raise ValueError(
                f'polygon {index} must have an even number of coordinates, got {len(polygon)}'
            )
        if not polygon:
            continue
        low, high = min(polygon), max(polygon)
        if not (-side <= low and high <= 2 * side and all(map(math.isfinite, polygon))):
            raise ValueError(
                f'polygon {index} must lie within {-side} to {2 * side} px, as the image has '
                f'{image_hw[0]} x {image_hw[1]} px, got {low} to {high}'
            )
        outline_px += _longest_outline(polygon, high - low)
    if outline_px > MAX_OUTLINE_PX:
        raise ValueError(f'polygons must have an outline of at most {MAX_OUTLINE_PX} px')


def _longest_outline(polygon: list[float], extent: float) -> float:
    bound = len(polygon) / 2 * extent
    if bound <= MAX_OUTLINE_PX / MAX_POLYGONS:
        return bound
    points = np.asarray(polygon).reshape(-1, 2)
    steps = np.abs(np.diff(points, axis=0, append=points[:1]))
    return float(steps.max(axis=1).sum())


def mask_code(mask: Any, image_hw: tuple[int, int]) -> dict[str, Any]:
    """Turn polygons with an area, or a run-length code, into a code."""
    if isinstance(mask, dict):
        return mask
    if not mask:
        return coco_mask.encode(np.zeros(image_hw, np.uint8, order='F'))
    return coco_mask.merge(coco_mask.frPyObjects(mask, *image_hw))


def read_ground_truth(
    path: Path,
    needs_masks: bool = False,
    needs_names: bool = False,
    needs_classes: bool = False,
    crowd: Crowd = 'ignore',
) -> dict[str, Any]:
    """Read a COCO JSON; pycocotools can use every mask of the result.

    Objects without area are left out, and a box that contradicts its mask is replaced by the box
    of the mask, each with one warning that says how many.

    Args:
        path: file to read.
        needs_masks: whether every annotation must have a mask, not its box alone.
        needs_names: whether the names of the images must be unique.
        needs_classes: whether every annotation must have the id of a category.
        crowd: 'objects' reads crowd regions as objects; with 'ignore' they stay crowds, which
            scoring ignores.

    Returns:
        A COCO dictionary, with the categories of the file if classes are needed, otherwise with
        the single category `object`. Polygons stay polygons.

    Raises:
        ValueError: the file is no COCO JSON; the message names the wrong entry.
    """
    images, annotations = [], []
    names, remarks = set(), Remarks()
    classes = _read_classes(path) if needs_classes else CATEGORIES
    class_ids = {one['id'] for one in classes}
    for image, found in read_annotated_images(path, crowd, remarks):
        if needs_names and image.file_name in names:
            raise ValueError(
                f'{path}: names of images must be unique, got {image.file_name!r} again'
            )
        names.add(image.file_name)
        images.append(msgspec.to_builtins(image))
        for where, annotation in found:
            if needs_classes and annotation.category_id not in class_ids:
                raise ValueError(
                    f'{path}: categories must hold the id and name of every class that is '
                    f'annotated, got no category {annotation.category_id}'
                )
            checked = check_object(where, annotation, image.image_hw, remarks, needs_masks)
            if checked is None:
                continue
            mask, area, box = checked
            if mask is not None and isinstance(annotation.segmentation, list):
                mask = with_area(annotation.segmentation)
            plain = {
                'id': annotation.id,
                'image_id': annotation.image_id,
                'category_id': annotation.category_id if needs_classes else CATEGORY_ID,
                'bbox': list(box),
                'area': area if annotation.area is None else annotation.area,
                'iscrowd': int(annotation.iscrowd),
                'ignore': int(annotation.ignore),
            }
            annotations.append(plain if mask is None else plain | {'segmentation': mask})
    remarks.check(path)
    remarks.warn(path)
    return {'images': images, 'annotations': annotations, 'categories': classes}


def _read_classes(path: Path) -> list[dict[str, Any]]:
    try:
        entries = read_entries(path, ('categories',))
        return [msgspec.to_builtins(entry.read(CocoCategory)) for entry in entries]
    except ValueError as error:
        raise ValueError(f'{path} must be a COCO JSON with classes: {error}') from error


def check_object(
    where: str,
    annotation: CocoAnnotation,
    image_hw: tuple[int, int],
    remarks: Remarks,
    needs_mask: bool = True,
) -> tuple[Any, float, Box] | None:
    """Give the run-length code of an object, its area in pixels, and its box.

    Returns:
        None for an object without area, or without the mask that is needed, which is counted; no
        code for a box alone. A box that contradicts the mask is counted, and that of the mask is
        given.

    Raises:
        ValueError: the mask cannot be used; the message begins with `where`.
    """
    polygons = annotation.segmentation
    code: Any = None
    if polygons:
        try:
            code = {'size': list(image_hw), 'counts': compress_mask(polygons, image_hw)}
        except ValueError as error:
            raise ValueError(f'{where}.segmentation: {error}') from error
        area, of_mask = float(coco_mask.area(code)), mask_box(code)
        box = annotation.bbox or of_mask
    elif needs_mask or annotation.bbox is None:
        remarks.without_mask += 1
        return None
    else:
        box = of_mask = annotation.bbox
        area = box[2] * box[3]
    if area == 0:
        remarks.without_area += 1
        return None
    is_wrong = contradicts(box, of_mask)
    if is_wrong and isinstance(polygons, list):  # a part may be too small to cover a pixel
        is_wrong = contradicts(box, polygon_box(with_area(polygons)))
    if is_wrong:
        remarks.boxes += 1
        box = of_mask
    return code, area, box
