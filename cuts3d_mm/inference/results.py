"""Convert the instances that a detector finds to common formats."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cuts3d_mm.labels.coco import coco_annotation
from cuts3d_mm.labels.record import ImageRecord, encode_instance

from .tiles import TiledDetection

if TYPE_CHECKING:
    from cuts3d_mm.labellers.detector import Detection

MOST_INSTANCES = 65535  # numbers that an index image holds


def to_supervision(
    instances: Sequence[Detection],
    image_hw: tuple[int, int],
    numbers: Sequence[int] | None = None,
) -> dict[str, NDArray[Any]]:
    """Arguments of `supervision.Detections`.

    Args:
        instances: instances of one image.
        image_hw: size of the image, in pixels.
        numbers: objects that are followed, one number per instance.

    Returns:
        `xyxy` (N, 4) float32 px, the boxes of the detector; `mask` (N, H, W) bool; `confidence`
        (N,) float32; `class_id` (N,) int64; with numbers `tracker_id` (N,) int64.
    """
    arguments: dict[str, NDArray[Any]] = {
        'xyxy': np.array([one.box_xyxy for one in instances], np.float32).reshape(-1, 4),
        'mask': np.array([one.mask for one in instances], bool).reshape(-1, *image_hw),
        'confidence': np.array([one.score for one in instances], np.float32),
        'class_id': np.array([one.label for one in instances], np.int64),
    }
    if numbers is not None:
        arguments['tracker_id'] = np.array(numbers, np.int64)
    return arguments


def to_mask_generation(instances: Sequence[Detection]) -> dict[str, Any]:
    """Result of the pipeline `mask-generation` of transformers, which runs SAM.

    Returns:
        `masks`: list of (H, W) bool, the best first; `scores`: (N,) float32.
    """
    return {
        'masks': [one.mask for one in instances],
        'scores': np.array([one.score for one in instances], np.float32),
    }


def to_record(
    instances: Sequence[Detection | TiledDetection], image_hw: tuple[int, int], name: str
) -> ImageRecord:
    """Row of a label store."""
    encoded = tuple(
        one.record
        if isinstance(one, TiledDetection)
        else encode_instance(one.mask, one.confidence, one.score, category=one.category)
        for one in instances
    )
    return ImageRecord(name, image_hw, encoded)


def to_coco(
    instances: Sequence[Detection], image_hw: tuple[int, int], image_id: int
) -> list[dict[str, Any]]:
    """COCO results, which `pycocotools.COCO.loadRes` reads; boxes are those of the masks."""
    record = to_record(instances, image_hw, str(image_id))
    return [
        {'image_id': image_id, **coco_annotation(instance, image_hw)}
        for instance in record.instances
    ]


def to_index_image(
    instances: Sequence[Detection | TiledDetection],
    image_hw: tuple[int, int],
    numbers: Sequence[int] | None = None,
) -> NDArray[np.uint16]:
    """Number every pixel by its instance, for a PNG.

    Args:
        instances: instances of one image, the best first.
        image_hw: size of the image, in pixels.
        numbers: objects that are followed, one number per instance.

    Returns:
        (H, W) uint16; 0 where there is no instance, 1 for the best instance, which also lies on
        top, and so on. An object that is followed has its own number instead.

    Raises:
        ValueError: an object that is followed has a number that does not fit.
    """
    shown = instances[:MOST_INSTANCES]
    places = range(1, len(shown) + 1) if numbers is None else numbers[:MOST_INSTANCES]
    if max(places, default=0) > MOST_INSTANCES:
        raise ValueError(f'mask images hold {MOST_INSTANCES} objects; leave out --save masks')
    index = np.zeros(image_hw, np.uint16)
    for instance, number in reversed(list(zip(shown, places, strict=True))):
        index[instance.mask] = number
    return index
