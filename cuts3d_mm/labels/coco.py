"""Read labels from a store or a COCO JSON, and write them as COCO JSON."""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, count, repeat, zip_longest
from pathlib import Path
from typing import Any

import contourpy
import msgspec
import numpy as np
from pycocotools import mask as coco_mask

from cuts3d_mm.arrays import Double, Mask
from cuts3d_mm.files.atomic import open_atomically, write_items
from cuts3d_mm.files.remote import Place, find_place

from .coco_json import (
    ANY_OBJECT,
    CATEGORY_ID,
    CocoAnnotation,
    CocoImage,
    Id,
    Polygons,
    RunLengths,
    StoredConfidence,
    check_object,
    compress_mask,
    read_annotated_images,
    read_entries,
)
from .left_out import Crowd, Remarks
from .record import (
    ConfidenceCrop,
    ImageRecord,
    InstanceRecord,
    check_confidence,
    decode_mask,
    mask_box,
    with_safe_name,
)
from .store import read_store, shard_paths


def read_labels(path: str | Place, crowd: Crowd = 'ignore') -> Iterator[ImageRecord]:
    """Read the records of a label store, or of a COCO JSON, one at a time.

    Args:
        path: place on this machine, or `s3://BUCKET/PREFIX`.
        crowd: whether regions of a COCO JSON that are marked `iscrowd` are left out ('ignore')
            or are objects ('objects').

    Raises:
        ValueError: the labels are damaged, or the file holds no labels.
        FileNotFoundError: the path does not exist.
    """
    path = find_place(path)
    if not path.exists():
        raise FileNotFoundError(f'labels must be a label store or a COCO JSON, found no {path}')
    return read_store(path) if path.is_dir() else read_coco(path, crowd)


def read_coco(
    path: Place, crowd: Crowd = 'ignore', remarks: Remarks | None = None
) -> Iterator[ImageRecord]:
    """Read a COCO JSON as records, in the order of its images.

    What is left out or corrected is counted, and said in one warning of each kind after the last
    image: crowd regions, objects without mask or area, objects of images that are not in the file,
    boxes that contradict their masks (the box of the mask is taken), and images whose width and
    height are swapped, as in the files of CutLER and CuVLER.

    Args:
        path: file to read.
        crowd: whether regions that are marked `iscrowd` are left out ('ignore') or are objects
            ('objects').
        remarks: gets the counts, in place of the warnings about objects.

    Raises:
        ValueError: the file is no COCO instance JSON, or holds nothing but crowds that are to
            be left out; the message names the wrong entry, or the remedy.
    """
    counted = Remarks() if remarks is None else remarks
    names = set()
    for position, (image, found) in enumerate(read_annotated_images(path, crowd, counted)):
        if image.file_name in names:
            raise ValueError(
                f'{path}: images[{position}].file_name must be unique, got '
                f'{image.file_name!r} again'
            )
        names.add(image.file_name)
        instances = []
        for where, annotation in found:
            if annotation.iscrowd:
                counted.crowds += 1
                continue
            instance = _from_annotation(where, annotation, image.image_hw, counted)
            if instance is not None:
                instances.append(instance)
        yield ImageRecord(image.file_name, image.image_hw, tuple(instances))
    counted.check(path)
    if remarks is None:
        counted.warn(path)


def _from_annotation(
    where: str, annotation: CocoAnnotation, image_hw: tuple[int, int], remarks: Remarks
) -> InstanceRecord | None:
    """Make a record; None for an object without mask or area."""
    found = check_object(where, annotation, image_hw, remarks)
    if found is None:
        return None
    code, area, box = found
    crop = None
    if annotation.confidence is not None:
        try:
            crop = _unpack_confidence(annotation.confidence)
        except (ValueError, zlib.error) as error:
            raise ValueError(f'{where}.confidence: {error}') from error
    return InstanceRecord(box, int(area), code['counts'], annotation.score, crop)


def _unpack_confidence(stored: StoredConfidence) -> ConfidenceCrop:
    _, _, width, height = stored.crop_xywh
    unpacker = zlib.decompressobj()
    packed = base64.b64decode(stored.values, validate=True)
    # A limit of one byte more than is allowed, so that a file cannot fill the memory.
    values = unpacker.decompress(packed, width * height + 1)
    if not unpacker.eof or unpacker.unused_data:
        raise ValueError(f'values must be {width * height} compressed bytes')
    crop = ConfidenceCrop(stored.grid_hw, stored.crop_xywh, values, stored.lower_bound)
    check_confidence(crop)
    return crop


def write_coco(
    path: Place,
    read_records: Callable[[], Iterable[ImageRecord]],
    as_polygons: bool = False,
    track_ids: Sequence[Sequence[int]] = (),
) -> int:
    """Write records as one COCO JSON, streaming; failed images are left out.

    Its categories are the classes of the instances, by name; instances without a class are of the
    category `object`.

    Args:
        path: file to write, atomically.
        read_records: function that gives the records; it is called twice, once for the images
            and once for the annotations, so that no more than one record is in memory.
        as_polygons: whether to write outlines of masks, for annotation tools, in place of
            run-length codes.
        track_ids: track of each instance, a list for each record, failures included; for objects
            that are followed through a video.

    Returns:
        Number of images written.
    """
    with open_atomically(path) as file:
        info = {'description': 'pseudo-labels by cuts3d_mm'}
        file.write(f'{{"info": {json.dumps(info)}, "licenses": [],\n'.encode())
        file.write(b'"images": [')
        ids = {ANY_OBJECT: CATEGORY_ID}  # for labels without an instance
        num_images = write_items(file, _coco_images(read_records(), ids))
        categories = [{'id': number, 'name': name} for name, number in ids.items()]
        file.write(f'],\n"categories": {json.dumps(categories)},\n"annotations": ['.encode())
        write_items(file, _coco_annotations(read_records(), as_polygons, track_ids, ids))
        file.write(b']}\n')
    return num_images


def write_results(
    path: Place, records: Iterable[ImageRecord], image_ids: Mapping[str, int] | None = None
) -> None:
    """Write instances as a COCO results list, which `pycocotools.COCO.loadRes` reads.

    Failed images are left out. `image_ids` gives the id of an image by its name; without it, ids
    are those of `write_coco`.
    """
    with open_atomically(path) as file:
        file.write(b'[')
        write_items(file, _results(records, image_ids))
        file.write(b']\n')


def _results(
    records: Iterable[ImageRecord], image_ids: Mapping[str, int] | None
) -> Iterator[dict[str, Any]]:
    labelled = (record for record in records if record.failure is None)
    for number, record in enumerate(labelled, start=1):
        image_id = number if image_ids is None else image_ids[record.name]
        for instance in record.instances:
            entry = coco_annotation(instance, record.image_hw)
            kept = ('category_id', 'bbox', 'segmentation', 'score')
            yield {'image_id': image_id, **{key: entry[key] for key in kept}}


class _Result(msgspec.Struct, frozen=True):
    """An element of a COCO results list."""

    image_id: Id
    score: float
    segmentation: RunLengths | Polygons | None = None


def is_results_list(path: Place) -> bool:
    """Whether a file holds a JSON list, as COCO results do."""
    if path.is_dir() or (isinstance(path, Path) and not path.is_file()):
        return False  # what is read from a pipe is gone
    with path.open('rb') as file:
        return file.read(1024).removeprefix(b'\xef\xbb\xbf').lstrip()[:1] == b'['


def read_results(
    path: Place, image_sizes: Mapping[Any, tuple[int, int]]
) -> Iterator[dict[str, Any]]:
    """Read a COCO results list, and check each mask; results without area are left out.

    `image_sizes` gives the height and width of an annotated image, in pixels, by its id.

    Raises:
        ValueError: the file is no results list with masks of these images.
    """
    try:
        with path.open('rb') as file:
            results = msgspec.json.decode(file.read(), type=list[_Result])
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ValueError(f'{path} must be a COCO results list: {error}') from error
    for index, one in enumerate(results):
        try:
            if one.image_id not in image_sizes:
                raise ValueError(
                    f'image_id must be that of an annotated image, got {one.image_id}'
                )
            if not one.segmentation:
                raise ValueError('segmentation must be there; results of boxes are not scored')
            image_hw = image_sizes[one.image_id]
            rle = compress_mask(one.segmentation, image_hw)
        except ValueError as error:
            raise ValueError(f'{path}: [{index}] {error}') from error
        code = {'size': image_hw, 'counts': rle}
        area = int(coco_mask.area(code))
        if area:
            record = InstanceRecord(mask_box(code), area, rle, one.score, None)
            annotation = coco_annotation(record, image_hw)
            yield annotation | {'image_id': one.image_id, 'score': one.score}


def read_image_ids(path: Place) -> dict[str, int]:
    """Read the ids of the images of a COCO JSON, by name.

    Raises:
        ValueError: the file has no list of images, or an entry is wrong.
    """
    try:
        images = [one.read(CocoImage) for one in read_entries(path, ('images',))]
    except ValueError as error:
        raise ValueError(f'{path} must be a COCO JSON: {error}') from error
    return {image.file_name: image.id for image in images}


def coco_annotation(record: InstanceRecord, image_hw: tuple[int, int]) -> dict[str, Any]:
    """Turn an instance into a COCO annotation, without `id` and `image_id`."""
    annotation: dict[str, Any] = {
        'category_id': CATEGORY_ID,
        'bbox': list(record.box_xywh),
        'area': record.area,
        'segmentation': {'size': list(image_hw), 'counts': record.rle.decode('ascii')},
        'iscrowd': 0,
        'score': round(float(record.score), 6),
    }
    if record.confidence is not None:
        values = base64.b64encode(zlib.compress(record.confidence.values, 9)).decode('ascii')
        annotation['confidence'] = {
            'grid_hw': list(record.confidence.grid_hw),
            'crop_xywh': list(record.confidence.crop_xywh),
            'values': values,
            'lower_bound': record.confidence.lower_bound,
        }
    return annotation


def _coco_images(records: Iterable[ImageRecord], ids: dict[str, int]) -> Iterator[dict[str, Any]]:
    """Make the entries of the images; `ids` then holds the ids of their classes by name."""
    labelled = (record for record in records if record.failure is None)
    names = set[str]()
    for image_id, record in enumerate(labelled, start=1):
        height, width = record.image_hw
        names.update(map(class_of, record.instances))
        yield {'id': image_id, 'file_name': record.name, 'height': height, 'width': width}
    if names:
        ids.clear()
        ids.update({name: number for number, name in enumerate(sorted(names), CATEGORY_ID)})


def class_of(instance: InstanceRecord) -> str:
    """Name of the class of an instance; 'object' where it has none."""
    return instance.category or ANY_OBJECT


def _coco_annotations(
    records: Iterable[ImageRecord],
    as_polygons: bool,
    track_ids: Sequence[Sequence[int]],
    ids: dict[str, int],
) -> Iterator[dict[str, Any]]:
    numbered = zip(records, chain(track_ids, repeat(())), strict=False)
    labelled = ((record, numbers) for record, numbers in numbered if record.failure is None)
    annotation_ids = count(1)
    for image_id, (record, numbers) in enumerate(labelled, start=1):
        for instance, number in zip_longest(record.instances, numbers):
            annotation = coco_annotation(instance, record.image_hw)
            annotation['category_id'] = ids[class_of(instance)]
            if as_polygons:
                annotation['segmentation'] = mask_polygons(decode_mask(instance, record.image_hw))
            if number is not None:
                annotation['track_id'] = number
            yield {'id': next(annotation_ids), 'image_id': image_id} | annotation


@dataclass(frozen=True)
class Exported:
    """The number of images that were written, and the names that were refused."""

    num_images: int
    refused: tuple[str, ...]  # a reason for each name that leads out of the image folder


def export_store(store: Place, target: Place, as_polygons: bool = False) -> Exported:
    """Write those labelled images of a store whose names stay in the image folder as COCO JSON.

    Raises:
        ValueError: `store` is no label store.
    """
    shard_paths(store)  # an error names the store before anything is written
    refused: dict[str, str] = {}

    def records() -> Iterator[ImageRecord]:
        for record in read_store(store):
            checked = with_safe_name(record)
            if checked is not record and checked.failure is not None:
                refused[record.name] = checked.failure
            yield checked

    num_images = write_coco(target, records, as_polygons)
    return Exported(num_images, tuple(refused.values()))


TOLERANCE_PX = 0.7  # distance between a diagonal and its steps of one pixel
LEAST_IOU = 0.95  # IoU of a mask and its polygons; outlines of thin masks stay exact
_DECIMALS = 2


def mask_polygons(mask: Mask) -> list[list[float]]:
    """Outline a mask, a polygon for each part; a hole is joined to its polygon by a double line.

    Outlines pass halfway between pixels inside and outside. They are simplified, by at most
    TOLERANCE_PX, if the simplified polygons have an IoU of at least LEAST_IOU with the mask.

    Args:
        mask: (H, W), not empty.

    Returns:
        x and y in turn, in pixels from the upper left corner of the image, as in COCO.
    """
    parts = _trace(mask)
    simple = [[_simplify(ring) for ring in rings] for rings in parts]
    polygons = [_join(rings) for rings in simple if len(rings[0]) > 2]
    if polygons:
        code = coco_mask.merge(coco_mask.frPyObjects(polygons, *mask.shape))
        exact = coco_mask.encode(np.asfortranarray(mask, dtype=np.uint8))
        if coco_mask.iou([code], [exact], [0])[0, 0] >= LEAST_IOU:
            return polygons
    return [_join(rings) for rings in parts]


def _trace(mask: Mask) -> list[list[Double]]:
    """Trace rings of each part, (N, 2) x, y: its outline, then its holes, in reverse order."""
    generator = contourpy.contour_generator(
        z=np.pad(mask, 1).astype(np.float64), fill_type=contourpy.FillType.OuterOffset
    )
    parts = []
    for points, offsets in zip(*generator.filled(0.5, 1.5), strict=True):
        rings = np.split(points - 0.5, offsets[1:-1])
        parts.append([ring[:-1] for ring in rings])  # the last point repeats the first
    return parts


def _simplify(ring: Double) -> Double:
    """Drop points by the rule of Douglas and Peucker."""
    import cv2

    return cv2.approxPolyDP(ring.astype(np.float32), TOLERANCE_PX, True)[:, 0].astype(float)


def _join(rings: list[Double]) -> list[float]:
    """Make one polygon of an outline and its holes, joined from left to right."""
    outline, *holes = rings
    for hole in sorted(
        (hole for hole in holes if len(hole) > 2), key=lambda hole: hole[:, 0].min()
    ):
        outline = _with_hole(outline, hole)
    return np.round(outline, _DECIMALS).ravel().tolist()


def _with_hole(outline: Double, hole: Double) -> Double:
    """Insert a hole at the first edge to the left of its leftmost point."""
    hole = np.roll(hole, -int(hole[:, 0].argmin()), axis=0)
    x, y = hole[0]
    start, end = outline, np.roll(outline, -1, axis=0)
    crosses = (start[:, 1] <= y) != (end[:, 1] <= y)
    rise = np.where(crosses, end[:, 1] - start[:, 1], 1)
    at_x = start[:, 0] + (y - start[:, 1]) / rise * (end[:, 0] - start[:, 0])
    edge = int(np.argmax(np.where(crosses & (at_x <= x), at_x, -np.inf)))
    door = np.array([[at_x[edge], y]])
    return np.concatenate([outline[: edge + 1], door, hole, hole[:1], door, outline[edge + 1 :]])
