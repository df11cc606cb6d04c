"""Label records <-> COCO JSON, the confidence in a field of its own.

Any COCO tool reads the file. The field `confidence` of an annotation holds `grid_hw`,
`crop_xywh` (both in patches), `values` (zlib-compressed uint8 in base64) and `lower_bound`, the
steps of 1/255 that the values were raised to; without it they were raised to 0.5.
"""

from __future__ import annotations

import base64
import json
import warnings
import zlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from pycocotools import mask as coco_mask

from cuts3d_mm.labels.atomic import open_atomically
from cuts3d_mm.labels.record import (
    OLDER_LOWER_BOUND,
    ConfidenceCrop,
    ImageRecord,
    InstanceRecord,
)

CATEGORIES = [{'id': 1, 'name': 'object'}]
# The same for MMDetection: class names and RGB colours.
DATASET_META: dict[str, Any] = {'classes': ('object',), 'palette': [(220, 20, 60)]}


def write_coco(path: Path, read_records: Callable[[], Iterable[ImageRecord]]) -> int:
    """Write records as one COCO JSON, streaming; failed images are left out.

    Args:
        path: the file to write, atomically.
        read_records: called twice, once for the images and once for the annotations, so
            that no more than one record is in memory.

    Returns:
        Number of images written.
    """
    with open_atomically(path) as file:
        info = {'description': 'class-agnostic pseudo-labels by cuts3d_mm'}
        file.write(f'{{"info": {json.dumps(info)}, "licenses": [],\n'.encode())
        file.write(f'"categories": {json.dumps(CATEGORIES)},\n"images": ['.encode())
        num_images = _write_items(file, _coco_images(read_records()))
        file.write(b'],\n"annotations": [')
        _write_items(file, _coco_annotations(read_records()))
        file.write(b']}\n')
    return num_images


def take_as_one_class(dataset: dict[str, Any]) -> None:
    """Make all annotations of a COCO dictionary instances of the one category, in place."""
    for annotation in dataset.get('annotations', []):
        annotation['category_id'] = CATEGORIES[0]['id']
    dataset['categories'] = CATEGORIES


def coco_annotation(record: InstanceRecord, image_hw: tuple[int, int]) -> dict[str, Any]:
    """One instance as a COCO annotation, without `id` and `image_id`."""
    annotation: dict[str, Any] = {
        'category_id': 1,
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


def read_coco(path: Path) -> Iterator[ImageRecord]:
    """Read a COCO JSON as records, in the order of its images; crowd regions are left out.

    The files of CutLER and CuVLER give the width of an image as its height. Where all masks of
    an image say so, its size is mended, with one warning that tells how many.

    Raises:
        ValueError: the file is no COCO instance JSON, or a mask is of another size than its
            image.
    """
    try:
        dataset = json.loads(path.read_text(encoding='utf-8'))
        images, annotations = dataset['images'], dataset['annotations']
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f'{path} must be a COCO JSON with images and annotations') from error
    by_image: dict[Any, list[dict[str, Any]]] = {}
    for annotation in annotations:
        if not annotation.get('iscrowd'):
            by_image.setdefault(annotation['image_id'], []).append(annotation)
    num_mended = 0
    for image in images:
        found = by_image.get(image['id'], [])
        image_hw, was_swapped = _image_hw(image, found)
        num_mended += was_swapped
        instances = tuple(_from_annotation(annotation, image_hw) for annotation in found)
        yield ImageRecord(image['file_name'], image_hw, instances)
    if num_mended:
        message = f'{path}: width and height were swapped in {num_mended} of {len(images)} images'
        warnings.warn(f'{message}; mended', stacklevel=2)


def _image_hw(
    image: dict[str, Any], annotations: list[dict[str, Any]]
) -> tuple[tuple[int, int], bool]:
    """Size of an image, and whether it had to be mended."""
    image_hw = image['height'], image['width']
    codes = [one['segmentation'] for one in annotations]
    mask_sizes = {tuple(code['size']) for code in codes if isinstance(code, dict)}
    if not mask_sizes - {image_hw}:
        return image_hw, False
    if mask_sizes == {image_hw[::-1]}:
        return (image_hw[1], image_hw[0]), True
    raise ValueError(
        f'masks of {image["file_name"]} must have the size of their image {image_hw} (H, W), got '
        f'{sorted(mask_sizes)}'
    )


def _coco_images(records: Iterable[ImageRecord]) -> Iterator[dict[str, Any]]:
    labelled = (record for record in records if record.failure is None)
    for image_id, record in enumerate(labelled, start=1):
        height, width = record.image_hw
        yield {'id': image_id, 'file_name': record.name, 'height': height, 'width': width}


def _coco_annotations(records: Iterable[ImageRecord]) -> Iterator[dict[str, Any]]:
    labelled = (record for record in records if record.failure is None)
    annotation_id = 0
    for image_id, record in enumerate(labelled, start=1):
        for instance in record.instances:
            annotation_id += 1
            ids = {'id': annotation_id, 'image_id': image_id}
            yield ids | coco_annotation(instance, record.image_hw)


def _write_items(file: Any, items: Iterable[dict[str, Any]]) -> int:
    count = 0
    for item in items:
        file.write((',\n' if count else '\n').encode() + json.dumps(item).encode())
        count += 1
    return count


def _from_annotation(annotation: dict[str, Any], image_hw: tuple[int, int]) -> InstanceRecord:
    code = run_length_code(annotation['segmentation'], image_hw)
    crop = None
    if 'confidence' in annotation:
        stored = annotation['confidence']
        values = zlib.decompress(base64.b64decode(stored['values']))
        bound = stored.get('lower_bound', OLDER_LOWER_BOUND)
        crop = ConfidenceCrop(tuple(stored['grid_hw']), tuple(stored['crop_xywh']), values, bound)
    box = tuple(float(value) for value in annotation['bbox'])
    score = float(annotation.get('score', 1.0))
    return InstanceRecord(box, int(coco_mask.area(code)), code['counts'], score, crop)  # type: ignore[arg-type]


def run_length_code(segmentation: Any, image_hw: tuple[int, int]) -> dict[str, Any]:
    """Bring polygons or any run-length code to a compressed one."""
    if isinstance(segmentation, list):  # polygons
        return coco_mask.merge(coco_mask.frPyObjects(segmentation, *image_hw))
    if isinstance(segmentation['counts'], list):  # uncompressed
        return coco_mask.frPyObjects(segmentation, *image_hw)
    counts = segmentation['counts']
    return {
        'size': segmentation['size'],
        'counts': counts.encode() if isinstance(counts, str) else counts,
    }
