"""Pack instances into records, the format that labelling and training share, and unpack them."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco_mask

from cuts3d_mm.algorithm.confidence import CONFIDENCE_STEPS, LOWER_BOUND, steps_of
from cuts3d_mm.arrays import Float, Mask
from cuts3d_mm.files.paths import BadName, require_inside, shown

from .rle import MAX_IMAGE_PIXELS, check_codes

# Older labels do not store a lower bound; their confidence was raised to SC_min.
OLDER_LOWER_BOUND = steps_of(LOWER_BOUND)
MAX_GRID_CELLS = 2**22  # cells of a confidence map: 2048 x 2048 patches


@dataclass(frozen=True)
class ConfidenceCrop:
    """A confidence map on the patch grid, cropped to where it is not zero."""

    grid_hw: tuple[int, int]  # size of the whole patch grid
    crop_xywh: tuple[int, int, int, int]  # in patches
    values: bytes  # crop height * width uint8 in steps of 1/255, row by row
    lower_bound: int = 0  # lowest step: smaller values were raised to it before storage


@dataclass(frozen=True)
class InstanceRecord:
    """An instance of an image."""

    box_xywh: tuple[float, float, float, float]  # pixels
    area: int  # pixels
    rle: bytes  # COCO run-length code of the mask at image size
    score: float  # mean of the stored confidence, or the score of a detector, in [0, 1]
    confidence: ConfidenceCrop | None  # None: the labeller gives no map
    embedding: bytes | None = None  # float16, little-endian; None: not asked for
    category: str | None = None  # class; None: an object, of which no more is known


@dataclass(frozen=True)
class ImageRecord:
    """An image with its instances, or with the reason why it could not be labelled."""

    name: str  # path relative to the image folder, with forward slashes
    image_hw: tuple[int, int]  # (0, 0) for a failure
    instances: tuple[InstanceRecord, ...] = ()
    failure: str | None = None  # reason why the image could not be labelled
    digest: bytes | None = field(default=None, compare=False)  # see images.reading.digest_file


def with_safe_name(record: ImageRecord) -> ImageRecord:
    """Turn a record into a failure if its name leads out of the image folder."""
    try:
        require_inside(record.name)
    except BadName as error:
        return ImageRecord(shown(record.name), (0, 0), failure=str(error))
    return record


def turning_advice(annotated_hw: tuple[Any, ...], image_hw: tuple[Any, ...]) -> str:
    """Say what to do where annotations lie on an image that EXIF has turned; '' elsewhere."""
    if tuple(annotated_hw) != tuple(image_hw)[::-1]:
        return ''
    return (
        '; masks lie on the stored pixels, as in COCO: if the photo has an EXIF orientation and '
        'was annotated upright, turn the files (mogrify -auto-orient) and label them again'
    )


def encode_instance(
    mask: Mask,
    confidence: Float | None,
    score: float,
    embedding: Float | None = None,
    category: str | None = None,
) -> InstanceRecord:
    """Pack an instance.

    Args:
        mask: (H, W), not empty.
        confidence: (h, w) on the patch grid in [0, 1], or None.
        score: score in [0, 1].
        embedding: (C,) vector, stored in 16 bits; None: not asked for.
        category: name of the class; None: an object, of which no more is known.
    """
    if not mask.any():
        raise ValueError(f'mask must not be empty, got {mask.shape} without a pixel')
    code = coco_mask.encode(np.asfortranarray(mask, dtype=np.uint8))
    crop = None if confidence is None else crop_confidence(confidence)
    vector = None if embedding is None else embedding.astype('<f2').tobytes()
    mask_of = mask_box(code), int(coco_mask.area(code)), code['counts']
    return InstanceRecord(*mask_of, float(score), crop, vector, category)


def mask_box(code: dict[str, Any]) -> tuple[float, float, float, float]:
    """Give the box of a run-length code: x, y, width, height in pixels."""
    left, top, width, height = map(float, coco_mask.toBbox(code))
    return left, top, width, height


def decode_mask(record: InstanceRecord, image_hw: tuple[int, int]) -> Mask:
    """Unpack the mask, (H, W) bool."""
    code = {'size': list(image_hw), 'counts': record.rle}
    return np.asarray(coco_mask.decode(code), dtype=bool)


def crop_confidence(confidence: Float) -> ConfidenceCrop:
    """Round a (h, w) confidence map to 1/255 and crop it to its non-zero part."""
    import cv2

    if confidence.min() < 0 or confidence.max() > 1:
        raise ValueError(
            f'confidence must lie in [0, 1], got {confidence.min()} to {confidence.max()}'
        )
    steps = np.rint(confidence * CONFIDENCE_STEPS).astype(np.uint8)
    left, top, width, height = cv2.boundingRect(steps)
    grid_hw = confidence.shape[0], confidence.shape[1]
    values = steps[top : top + height, left : left + width].tobytes()
    return ConfidenceCrop(grid_hw, (left, top, width, height), values)


def decode_confidence(crop: ConfidenceCrop) -> NDArray[np.uint8]:
    """Unpack a confidence map, (h, w) uint8 in steps of 1/255."""
    left, top, width, height = crop.crop_xywh
    steps = np.zeros(crop.grid_hw, np.uint8)
    values = np.frombuffer(crop.values, np.uint8).reshape(height, width)
    steps[top : top + height, left : left + width] = values
    return steps


def check_record(record: ImageRecord) -> ImageRecord:
    """Check that masks, confidence and boxes of a record can be used, and return it.

    Raises:
        ValueError: something cannot be used; the message names the image and what must hold.
    """
    try:
        height, width = record.image_hw
        if record.failure is None:
            if height < 1 or width < 1 or height * width > MAX_IMAGE_PIXELS:
                raise ValueError(
                    f'size must be from 1 to {MAX_IMAGE_PIXELS} pixels, got {record.image_hw}'
                )
            check_codes((one.rle for one in record.instances), record.image_hw)
        elif record.instances:
            raise ValueError('a failed image must have no instances')
        for instance in record.instances:
            box_xywh = instance.box_xywh
            are_finite = all(map(math.isfinite, (*box_xywh, instance.score)))
            if len(box_xywh) != 4 or not are_finite or instance.area < 0:
                raise ValueError(f'box, area and score must be finite numbers, got {box_xywh}')
            if instance.confidence is not None:
                check_confidence(instance.confidence)
    except (ValueError, TypeError) as error:
        raise ValueError(f'labels of {record.name!r}: {error}') from error
    return record


def check_confidence(crop: ConfidenceCrop) -> None:
    """Check that a confidence map fits its grid.

    Raises:
        ValueError: the map does not fit.
    """
    left, top, width, height = crop.crop_xywh
    rows, columns = crop.grid_hw
    if rows < 1 or columns < 1 or rows * columns > MAX_GRID_CELLS:
        raise ValueError(f'grid_hw must have from 1 to {MAX_GRID_CELLS} cells, got {crop.grid_hw}')
    if min(crop.crop_xywh) < 0 or left + width > columns or top + height > rows:
        raise ValueError(f'crop_xywh must lie within {crop.grid_hw} (h, w), got {crop.crop_xywh}')
    if len(crop.values) != width * height:
        raise ValueError(
            f'confidence must have {width * height} values, a value for each cell of its crop, '
            f'got {len(crop.values)}'
        )
