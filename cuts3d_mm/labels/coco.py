"""Write label records as COCO JSON and read them, the confidence in a field of its own.

Any COCO tool reads the file. The field `confidence` of an annotation holds `grid_hw`,
`crop_xywh` (both in patches), `values` (zlib-compressed uint8 in base64) and `lower_bound`, the
steps of 1/255 that the values were raised to; without it they were raised to 0.5.
"""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain, repeat
from typing import Any

from pycocotools import mask as coco_mask

from cuts3d_mm.files.atomic import open_atomically
from cuts3d_mm.files.remote import Place
from cuts3d_mm.labels.coco_reader import read_annotated_images
from cuts3d_mm.labels.coco_schema import CATEGORIES, CATEGORY_ID, CocoAnnotation, StoredConfidence
from cuts3d_mm.labels.polygons import record_polygons
from cuts3d_mm.labels.record import ConfidenceCrop, ImageRecord, InstanceRecord
from cuts3d_mm.labels.record_check import check_confidence
from cuts3d_mm.labels.segmentation import compress_mask


def write_coco(
    path: Place,
    read_records: Callable[[], Iterable[ImageRecord]],
    as_polygons: bool = False,
    track_ids: Sequence[Sequence[int]] = (),
) -> int:
    """Write records as one COCO JSON, streaming; failed images are left out.

    Args:
        path: the file to write, atomically.
        read_records: called twice, once for the images and once for the annotations, so
            that no more than one record is in memory.
        as_polygons: write outlines of masks, for annotation tools, in place of run-length codes.
        track_ids: of the instances of each record, failures included, where objects are
            followed through a video.

    Returns:
        Number of images written.
    """
    with open_atomically(path) as file:
        info = {'description': 'class-agnostic pseudo-labels by cuts3d_mm'}
        file.write(f'{{"info": {json.dumps(info)}, "licenses": [],\n'.encode())
        file.write(f'"categories": {json.dumps(CATEGORIES)},\n"images": ['.encode())
        num_images = _write_items(file, _coco_images(read_records()))
        file.write(b'],\n"annotations": [')
        _write_items(file, _coco_annotations(read_records(), as_polygons, track_ids))
        file.write(b']}\n')
    return num_images


def coco_annotation(record: InstanceRecord, image_hw: tuple[int, int]) -> dict[str, Any]:
    """One instance as a COCO annotation, without `id` and `image_id`."""
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


def read_coco(path: Place) -> Iterator[ImageRecord]:
    """Read a COCO JSON as records, in the order of its images; crowd regions are left out.

    The files of CutLER and CuVLER give the width of an image as its height. Where all masks of
    an image say so, its size is corrected, with one warning that tells how many.

    Raises:
        ValueError: the file is no COCO instance JSON; the message names the entry that is not
            as it must be.
    """
    names = set()
    for position, (image, found) in enumerate(read_annotated_images(path)):
        if image.file_name in names:
            raise ValueError(
                f'{path}: images[{position}].file_name must be of one image, got '
                f'{image.file_name!r} again'
            )
        names.add(image.file_name)
        instances = []
        for index, annotation in found:
            if annotation.iscrowd:
                continue
            try:
                instances.append(_from_annotation(annotation, image.image_hw))
            except ValueError as error:
                raise ValueError(f'{path}: annotations[{index}]{error}') from error
        yield ImageRecord(image.file_name, image.image_hw, tuple(instances))


def _coco_images(records: Iterable[ImageRecord]) -> Iterator[dict[str, Any]]:
    labelled = (record for record in records if record.failure is None)
    for image_id, record in enumerate(labelled, start=1):
        height, width = record.image_hw
        yield {'id': image_id, 'file_name': record.name, 'height': height, 'width': width}


def _coco_annotations(
    records: Iterable[ImageRecord], as_polygons: bool, track_ids: Sequence[Sequence[int]]
) -> Iterator[dict[str, Any]]:
    numbered = zip(records, chain(track_ids, repeat(())), strict=False)
    labelled = ((record, numbers) for record, numbers in numbered if record.failure is None)
    annotation_id = 0
    for image_id, (record, numbers) in enumerate(labelled, start=1):
        known = chain(numbers, repeat(None))
        for instance, number in zip(record.instances, known, strict=False):
            annotation_id += 1
            annotation = coco_annotation(instance, record.image_hw)
            if as_polygons:
                annotation['segmentation'] = record_polygons(instance, record.image_hw)
            if number is not None:
                annotation['track_id'] = number
            yield {'id': annotation_id, 'image_id': image_id} | annotation


def _write_items(file: Any, items: Iterable[dict[str, Any]]) -> int:
    count = 0
    for item in items:
        file.write((',\n' if count else '\n').encode() + json.dumps(item).encode())
        count += 1
    return count


def _from_annotation(annotation: CocoAnnotation, image_hw: tuple[int, int]) -> InstanceRecord:
    """Make a record; an error says what must hold behind the name of the annotation."""
    if not annotation.segmentation:
        raise ValueError(' must have a segmentation')
    try:
        code = compress_mask(annotation.segmentation, image_hw)
    except ValueError as error:
        raise ValueError(f'.segmentation: {error}') from error
    crop = None
    if annotation.confidence is not None:
        try:
            crop = _unpack_confidence(annotation.confidence)
        except (ValueError, zlib.error) as error:
            raise ValueError(f'.confidence: {error}') from error
    area = int(coco_mask.area({'size': list(image_hw), 'counts': code}))
    return InstanceRecord(annotation.bbox, area, code, annotation.score, crop)


def _unpack_confidence(stored: StoredConfidence) -> ConfidenceCrop:
    _, _, width, height = stored.crop_xywh
    unpacker = zlib.decompressobj()
    packed = base64.b64decode(stored.values, validate=True)
    # One more than there may be, so that a file cannot unpack to all memory.
    values = unpacker.decompress(packed, width * height + 1)
    if not unpacker.eof or unpacker.unused_data:
        raise ValueError(f'values must be {width * height} compressed bytes')
    crop = ConfidenceCrop(stored.grid_hw, stored.crop_xywh, values, stored.lower_bound)
    check_confidence(crop)
    return crop
