"""Read COCO JSON in limited memory, and check it entry by entry."""

from __future__ import annotations

import math
import re
import warnings
from array import array
from collections.abc import Collection, Iterator
from contextlib import suppress
from pathlib import Path
from tempfile import SpooledTemporaryFile
from typing import IO, Annotated, Any, NamedTuple, TypeVar

import ijson
import msgspec
import numpy as np
from msgspec import Meta
from pycocotools import mask as coco_mask

from cuts3d_mm.algorithm.confidence import CONFIDENCE_STEPS
from cuts3d_mm.files.remote import Place

from .dialects import in_plain_form
from .left_out import (
    Box,
    Crowd,
    Remarks,
    contradicts,
    mask_box,
    polygon_box,
    require_crowd,
    require_objects,
)
from .record import OLDER_LOWER_BOUND
from .rle import MAX_CODE_BYTES, MAX_IMAGE_PIXELS, pack_runs, tidy_code

CATEGORY_ID = 1
CATEGORIES = [{'id': CATEGORY_ID, 'name': 'object'}]
# The same for MMDetection: class names and RGB colours.
DATASET_META: dict[str, Any] = {'classes': ('object',), 'palette': [(220, 20, 60)]}
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
T = TypeVar('T', bound=msgspec.Struct)


class AnnotatedImage(NamedTuple):
    """An image and all its annotations."""

    image: CocoImage
    annotations: list[tuple[int, CocoAnnotation]]  # each with its index in the file


def read_annotated_images(
    path: Place, crowd: Crowd = 'ignore', remarks: Remarks | None = None
) -> Iterator[AnnotatedImage]:
    """Read a COCO JSON in the order of its images; each entry is checked, not yet its mask.

    What tools write otherwise than COCO, but plainly, is read; see `in_plain_form`.
    Annotations of images that are not in the file are left out and counted.

    The files of CutLER and CuVLER give the width of an image as its height. Where all run-length
    codes of an image show it, its size is corrected, with one warning that says how many images.

    Args:
        path: file to read.
        crowd: 'objects' gives regions that are marked `iscrowd` as objects; with 'ignore' they
            stay crowds.
        remarks: gets the counts.

    Raises:
        ValueError: the file is no COCO JSON, an entry is wrong, or every annotation is a crowd
            to ignore; the message names the file, the entry and what must hold.
    """
    require_crowd(crowd)
    with _Annotations(crowd == 'objects') as annotations:
        try:
            images = _read_all(path, annotations, remarks or Remarks())
            annotations.check_ids()
        except ValueError as error:
            raise ValueError(f'{path} must be a COCO JSON: {error}') from error
        annotations.check_crowds(path)
        yield from _in_order(path, images, annotations)


def _read_all(path: Place, annotations: _Annotations, remarks: Remarks) -> list[CocoImage]:
    images: dict[int, CocoImage] = {}
    for entry in read_entries(path, ('images', 'annotations')):
        if entry.part == 'annotations':
            annotations.add(convert_entry(entry, CocoAnnotation))
            continue
        image = convert_entry(entry, CocoImage)
        if image.id in images:
            raise ValueError(f'{entry.where}.id must be unique, got {image.id} again')
        images[image.id] = image
    remarks.num_objects = annotations.count
    remarks.orphans = annotations.assign(images)
    return list(images.values())


def _in_order(
    path: Place, images: list[CocoImage], annotations: _Annotations
) -> Iterator[AnnotatedImage]:
    num_swapped = 0
    for image, found in zip(images, annotations.by_image(len(images)), strict=True):
        sizes = {
            one.segmentation.size for _, one in found if isinstance(one.segmentation, RunLengths)
        }
        if sizes - {image.image_hw}:
            if sizes != {image.image_hw[::-1]}:
                raise ValueError(
                    f'{path}: masks of {image.file_name} must have the size of their image '
                    f'{image.image_hw} (H, W), got {sorted(sizes)}'
                )
            num_swapped += 1
            image = CocoImage(image.file_name, image.id, image.width, image.height)
        yield AnnotatedImage(image, found)
    if num_swapped:
        message = f'{path}: width and height were swapped in {num_swapped} of {len(images)} images'
        warnings.warn(f'{message}; corrected', stacklevel=4)


_MAX_IN_MEMORY = 2**26  # bytes of annotations; a file with more goes to the disk


class _Annotations:
    """Annotations outside of memory, in the order of the file, to be read image by image."""

    def __init__(self, crowds_are_objects: bool) -> None:
        self._crowds_are_objects = crowds_are_objects
        self._num_crowds = 0
        self._file = SpooledTemporaryFile(_MAX_IN_MEMORY)  # noqa: SIM115
        self._encode = msgspec.msgpack.Encoder().encode
        self._decode = msgspec.msgpack.Decoder(CocoAnnotation).decode
        self._ends = array('q', [0])
        self._ids = array('q')
        self._image_ids = array('q')
        self._images: list[int] = []

    def __enter__(self) -> _Annotations:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def add(self, annotation: CocoAnnotation) -> None:
        if annotation.iscrowd and self._crowds_are_objects:
            annotation = msgspec.structs.replace(annotation, iscrowd=0)
        self._num_crowds += int(annotation.iscrowd)
        content = self._encode(annotation)
        self._file.write(content)
        self._ends.append(self._ends[-1] + len(content))
        self._ids.append(annotation.id)
        self._image_ids.append(annotation.image_id)

    @property
    def count(self) -> int:
        return len(self._ids)

    def check_ids(self) -> None:
        ids = np.frombuffer(self._ids, np.int64) if self._ids else np.empty(0, np.int64)
        order = np.argsort(ids, kind='stable')
        again = order[1:][np.diff(ids[order]) == 0]
        if again.size:
            index = int(again.min())
            raise ValueError(f'annotations[{index}].id must be unique, got {ids[index]} again')

    def check_crowds(self, path: Place) -> None:
        require_objects(path, len(self._ids), self._num_crowds)

    def assign(self, images: dict[int, CocoImage]) -> int:
        """Find the image of each annotation; count those that have none."""
        positions = {image_id: position for position, image_id in enumerate(images)}
        self._images = [positions.get(image_id, -1) for image_id in self._image_ids]
        num_orphans = self._images.count(-1)
        if num_orphans and num_orphans == len(self._images):
            raise ValueError(
                f'annotations[0].image_id must be the id of an image, got {self._image_ids[0]}'
            )
        return num_orphans

    def by_image(self, num_images: int) -> Iterator[list[tuple[int, CocoAnnotation]]]:
        positions = np.asarray(self._images, np.int64)
        order = np.argsort(positions, kind='stable')
        bounds = np.searchsorted(positions[order], np.arange(num_images + 1))
        for first, last in zip(bounds[:-1], bounds[1:], strict=True):
            yield [(int(i), self._read(int(i))) for i in order[first:last]]

    def _read(self, index: int) -> CocoAnnotation:
        self._file.seek(self._ends[index])
        return self._decode(self._file.read(self._ends[index + 1] - self._ends[index]))


class CocoName(msgspec.Struct, frozen=True):
    """The name of an image, for readers that need nothing else."""

    file_name: str


class CocoImage(msgspec.Struct, frozen=True):
    """An element of `images`."""

    file_name: Annotated[str, Meta(min_length=1, max_length=4096)]
    id: Id
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


def convert_entry(entry: Entry, kind: type[T]) -> T:
    """Check an entry and convert it to its type; keys that the type lacks are left out.

    An entry in another form than COCO's is read as `in_plain_form` gives it.

    Raises:
        ValueError: the entry does not fit the type; the message names it and what must hold.
    """
    try:
        return msgspec.convert(entry.value, kind)
    except msgspec.ValidationError as error:
        with suppress(msgspec.ValidationError):
            return msgspec.convert(in_plain_form(*entry), kind)
        raise ValueError(entry.where + _describe(str(error))) from None


def _describe(message: str) -> str:
    """Turn "Expected `int`, got `str` - at `$.id`" into ".id must be int, got str"."""
    text, _, place = message.replace('`', '').partition(' - at $')
    for theirs, ours in (
        ('Expected ', 'must be '),
        ('Object missing required field ', 'must have '),
        ('must', 'must'),
    ):
        if text.startswith(theirs):
            return f'{place} {ours}{text.removeprefix(theirs)}'
    return f'{place} is wrong: {text[:1].lower()}{text[1:]}'


MAX_DEPTH = 32  # nested lists and objects of an entry; COCO needs 3
MAX_ENTRY_BYTES = 2**23  # bytes of JSON text; entries of COCO and LVIS have less than 2**18
_BYTE_ORDER_MARK = b'\xef\xbb\xbf'
Events = Iterator[tuple[str, Any]]


class Entry(NamedTuple):
    """An element of a list at the top of the file."""

    part: str  # name of the list
    position: int
    value: Any

    @property
    def where(self) -> str:
        """Name of the entry in a message, such as `images[12]`."""
        return f'{self.part}[{self.position}]'


def read_entries(path: Place, parts: Collection[str]) -> Iterator[Entry]:
    """Read some lists of a JSON object, in the order of the file; the rest is skipped.

    Args:
        path: file to read.
        parts: keys of the lists; each must be in the file once.

    Raises:
        ValueError: the file is no JSON object with these lists, or exceeds a limit. The
            message does not name the file.
    """
    with path.open('rb') as file:
        source = _Source(file)
        try:
            yield from _read_object(ijson.basic_parse(source, use_float=True), source, parts)
        except ijson.JSONError as error:
            raise ValueError(source.find_number() or _reason(error)) from error


_ODD_NUMBER = re.compile(
    rb'("[\w ]{1,40}")?[:\[,\s]*(?<![\w"])(-?(?:NaN|Infinity|\d{19,}|[\d.]+[eE]\+?\d{3,}))'
)


class _Source:
    """A file that gives at most `MAX_ENTRY_BYTES` for each entry."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._num_bytes = self._start = 0
        self._read = self._before = b''  # what was read last, and before
        self._where = 'the beginning'
        if file.read(len(_BYTE_ORDER_MARK)) != _BYTE_ORDER_MARK:
            file.seek(0)

    def begin(self, where: str) -> None:
        self._num_bytes, self._where = 0, where

    def read(self, size: int = -1) -> bytes:
        self._num_bytes += size
        if self._num_bytes > MAX_ENTRY_BYTES:
            raise ValueError(f'{self._where} must be at most {MAX_ENTRY_BYTES} bytes long')
        self._start += len(self._before)
        self._before, self._read = self._read, self._file.read(size)
        return self._read

    def find_number(self) -> str | None:
        """Say which number in what was read last is none of JSON, or too large."""
        text = self._before + self._read
        for found in _ODD_NUMBER.finditer(text):
            key, number = (part.decode('ascii', 'replace') for part in found.groups(b''))
            if not (number.lstrip('-').isdecimal() and abs(int(number)) < 2**63):
                return (
                    f'{self._where}: numbers must be finite and fit into 64 bits, got '
                    f'{f"{key}: " if key else ""}{number} at byte '
                    f'{self._start + found.start(2)} of the file'
                )
        return None


def _read_object(events: Events, source: _Source, parts: Collection[str]) -> Iterator[Entry]:
    if next(events)[0] != 'start_map':
        raise ValueError('must hold one JSON object')
    found = set()
    for event, key in events:
        if event == 'end_map':
            break
        if key in found:
            raise ValueError(f'{key[:40]!r} must be there once')
        found.add(key)
        source.begin(repr(key[:40]))
        event, _ = next(events)
        if key not in parts:
            _pass_over(events, source, event, key[:40])
        elif event == 'start_array':
            yield from _read_list(events, source, key)
        else:
            raise ValueError(f'{key!r} must be a list')
    for _ in events:  # the parser refuses what follows the object
        raise ValueError('must hold one JSON object')
    missing = [part for part in parts if part not in found]
    if missing:
        raise ValueError(f'{missing[0]!r} must be there')


def _read_list(events: Events, source: _Source, part: str) -> Iterator[Entry]:
    index = 0
    for event, value in events:
        if event == 'end_array':
            return
        entry = Entry(part, index, None)
        source.begin(entry.where)
        yield entry._replace(value=_build(events, event, value, entry))
        index += 1
        source.begin(f'{part}[{index}]')


def _build(events: Events, event: str, value: Any, entry: Entry) -> Any:
    """Build the value that begins with an event."""
    if event not in ('start_map', 'start_array'):
        return value
    top: Any = {} if event == 'start_map' else []
    key = ''
    outer: list[Any] = []
    for event, value in events:
        if event == 'map_key':
            if value in top:
                raise ValueError(f'{entry.where} must have {value[:40]!r} once')
            key = value
            continue
        if event == 'end_map' or event == 'end_array':
            if not outer:
                return top
            top = outer.pop()
            continue
        is_nested = event == 'start_map' or event == 'start_array'
        inner = ({} if event == 'start_map' else []) if is_nested else value
        if type(top) is list:
            top.append(inner)
        else:
            top[key] = inner
        if is_nested:
            outer.append(top)
            if len(outer) >= MAX_DEPTH:
                raise ValueError(f'{entry.where} must be nested at most {MAX_DEPTH} deep')
            top = inner
    raise ValueError(f'{entry.where} must have an end')


def _pass_over(events: Events, source: _Source, event: str, key: str) -> None:
    depth = 0
    while True:
        if event in ('start_map', 'start_array'):
            depth += 1
        elif event in ('end_map', 'end_array'):
            depth -= 1
        if depth == 0:
            return
        if depth > MAX_DEPTH:
            raise ValueError(f'{key!r} must be nested at most {MAX_DEPTH} deep')
        if depth == 1:
            source.begin(repr(key))
        event, _ = next(events)


def _reason(error: Exception) -> str:
    """Say what must hold, and the first line of the parser's message, which may be bytes."""
    said = error.args[0] if error.args else ''
    text = said.decode('utf-8', 'replace') if isinstance(said, bytes) else str(said)
    return f'must be whole JSON in UTF-8: {text.strip().split(chr(10))[0]}'


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
    check_polygons(segmentation, image_hw)
    return _rasterise(with_area(segmentation), image_hw)['counts']


def _rasterise(polygons: Polygons, image_hw: tuple[int, int]) -> dict[str, Any]:
    if not polygons:
        return coco_mask.encode(np.zeros(image_hw, np.uint8, order='F'))
    return coco_mask.merge(coco_mask.frPyObjects(polygons, *image_hw))


def with_area(polygons: Polygons) -> Polygons:
    """Leave out polygons of fewer than three points, which cover nothing."""
    return [polygon for polygon in polygons if len(polygon) >= _FEWEST_NUMBERS]


def check_polygons(polygons: Polygons, image_hw: tuple[int, int]) -> None:
    """Check that pycocotools can rasterise polygons.

    Raises:
        ValueError: there are too few or too many polygons, or a polygon is too long, has an
            odd number of coordinates, or lies too far from the image.
    """
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


def mask_code(segmentation: Any, image_hw: tuple[int, int]) -> dict[str, Any]:
    """Turn a mask of `read_ground_truth`, polygons or a run-length code, into a code."""
    if isinstance(segmentation, dict):
        return segmentation
    return _rasterise(segmentation, image_hw)


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
        images.append(
            {
                'id': image.id,
                'file_name': image.file_name,
                'height': image.height,
                'width': image.width,
            }
        )
        for index, annotation in found:
            if needs_classes and annotation.category_id not in class_ids:
                raise ValueError(
                    f'{path}: categories must hold the id and name of every class that is '
                    f'annotated, got no category {annotation.category_id}'
                )
            try:
                plain = _as_plain(annotation, image, needs_masks, remarks)
            except ValueError as error:
                raise ValueError(f'{path}: annotations[{index}]{error}') from error
            if plain is not None:
                if needs_classes:
                    plain['category_id'] = annotation.category_id
                annotations.append(plain)
    remarks.check(path)
    remarks.warn(path)
    return {'images': images, 'annotations': annotations, 'categories': classes}


def _read_classes(path: Path) -> list[dict[str, Any]]:
    try:
        entries = read_entries(path, ('categories',))
        classes = [convert_entry(entry, CocoCategory) for entry in entries]
    except ValueError as error:
        raise ValueError(f'{path} must be a COCO JSON with classes: {error}') from error
    return [{'id': one.id, 'name': one.name} for one in classes]


def _as_plain(
    annotation: CocoAnnotation, image: CocoImage, needs_masks: bool, remarks: Remarks
) -> dict[str, Any] | None:
    """Make a dictionary; None for an object without area, or without a mask that is needed.

    The caller puts the name of the annotation before an error.
    """
    mask, code = None, None
    if annotation.segmentation:
        try:
            mask, code = _checked_mask(annotation, image.image_hw)
        except ValueError as error:
            raise ValueError(f'.segmentation: {error}') from error
    elif needs_masks or annotation.bbox is None:
        remarks.without_mask += 1
        return None
    box = annotation.bbox or (0.0, 0.0, 0.0, 0.0)
    area = box[2] * box[3]
    if code is not None:
        area = float(coco_mask.area(code))
    elif mask is not None and annotation.area is not None:
        area = annotation.area
    if area == 0:
        remarks.without_area += 1
        return None
    if mask is not None and _is_contradicted(box, mask, code, image.image_hw):
        remarks.boxes += annotation.bbox is not None
        box = mask_box(mask_code(mask, image.image_hw))
    plain: dict[str, Any] = {
        'id': annotation.id,
        'image_id': annotation.image_id,
        'category_id': CATEGORIES[0]['id'],
        'bbox': list(box),
        'area': area if annotation.area is None else annotation.area,
        'iscrowd': int(annotation.iscrowd),
        'ignore': int(annotation.ignore),
    }
    if mask is not None:
        plain['segmentation'] = mask
    return plain


def _is_contradicted(
    box: Box, mask: Any, code: dict[str, Any] | None, image_hw: tuple[int, int]
) -> bool:
    """Whether a box fits neither the points of its polygons nor the pixels of its mask."""
    if isinstance(mask, list) and not contradicts(box, polygon_box(mask)):
        return False
    return contradicts(box, mask_box(mask_code(mask, image_hw) if code is None else code))


_SURE_PX = 4.0  # sides and annotated area, px, from which a polygon is sure to cover a pixel


def _checked_mask(
    annotation: CocoAnnotation, image_hw: tuple[int, int]
) -> tuple[Any, dict[str, Any] | None]:
    """Check a mask; give it as `read_ground_truth` does, and its code where it is needed."""
    segmentation: Any = annotation.segmentation
    if isinstance(segmentation, RunLengths):
        code = {'size': list(image_hw), 'counts': compress_mask(segmentation, image_hw)}
        return code, code
    check_polygons(segmentation, image_hw)
    polygons = with_area(segmentation)
    if polygons and annotation.area is not None and annotation.area >= _SURE_PX:
        if min(polygon_box(polygons)[2:]) >= _SURE_PX:
            return polygons, None
    return polygons, _rasterise(polygons, image_hw)
