"""Read annotations of any classes as a ground truth of one class for pycocotools."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from cuts3d_mm.labels.coco_reader import read_annotated_images
from cuts3d_mm.labels.coco_schema import CATEGORIES, CocoAnnotation, CocoImage, RunLengths
from cuts3d_mm.labels.segmentation import check_polygons, compress_mask


def read_ground_truth(
    path: Path, needs_masks: bool = False, needs_names: bool = False
) -> dict[str, Any]:
    """Read a COCO JSON; every mask is one that pycocotools can take.

    Args:
        path: the file.
        needs_masks: whether every annotation must have one, not its box alone.
        needs_names: whether every image must have a name of its own.

    Returns:
        A COCO dictionary with the one category `object`. Polygons stay polygons.

    Raises:
        ValueError: the file is none; the message names the entry that is not as it must be.
    """
    images, annotations = [], []
    names = set()
    for image, found in read_annotated_images(path):
        if needs_names and image.file_name in names:
            raise ValueError(
                f'{path}: images must have names of their own, got {image.file_name!r} again'
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
            try:
                annotations.append(_as_plain(annotation, image, needs_masks))
            except ValueError as error:
                raise ValueError(f'{path}: annotations[{index}]{error}') from error
    return {'images': images, 'annotations': annotations, 'categories': CATEGORIES}


def _as_plain(annotation: CocoAnnotation, image: CocoImage, needs_masks: bool) -> dict[str, Any]:
    """Make a dictionary; an error says what must hold behind the name of the annotation."""
    if annotation.area is None:
        raise ValueError(' must have an area')
    plain: dict[str, Any] = {
        'id': annotation.id,
        'image_id': annotation.image_id,
        'category_id': CATEGORIES[0]['id'],
        'bbox': list(annotation.bbox),
        'area': annotation.area,
        'iscrowd': int(annotation.iscrowd),
        'ignore': int(annotation.ignore),
    }
    if annotation.segmentation:
        try:
            plain['segmentation'] = _checked_mask(annotation.segmentation, image.image_hw)
        except ValueError as error:
            raise ValueError(f'.segmentation: {error}') from error
    elif needs_masks:
        raise ValueError(' must have a segmentation: masks are scored')
    return plain


def _checked_mask(segmentation: Any, image_hw: tuple[int, int]) -> Any:
    if isinstance(segmentation, RunLengths):
        return {'size': list(image_hw), 'counts': compress_mask(segmentation, image_hw)}
    check_polygons(segmentation, image_hw)
    return segmentation
