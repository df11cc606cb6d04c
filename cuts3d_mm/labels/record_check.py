"""Check records that come from a file before their masks are decoded."""

from __future__ import annotations

import math

from cuts3d_mm.labels.record import ConfidenceCrop, ImageRecord, InstanceRecord
from cuts3d_mm.labels.run_length import MAX_IMAGE_PIXELS, check_codes

MAX_GRID_CELLS = 2**22  # of a confidence map: 2048 x 2048 patches


def check_record(record: ImageRecord) -> ImageRecord:
    """Return a record whose masks, confidence and boxes can be used.

    Raises:
        ValueError: they cannot; the message names the image and what must hold.
    """
    try:
        if record.failure is None:
            _check_size(record.image_hw)
            check_codes((one.rle for one in record.instances), record.image_hw)
        elif record.instances:
            raise ValueError('a failed image must have no instances')
        for instance in record.instances:
            _check_numbers(instance)
            if instance.confidence is not None:
                check_confidence(instance.confidence)
    except (ValueError, TypeError) as error:
        raise ValueError(f'labels of {record.name!r}: {error}') from error
    return record


def check_confidence(crop: ConfidenceCrop) -> None:
    """Check that a confidence map fits its grid.

    Raises:
        ValueError: it does not.
    """
    left, top, width, height = crop.crop_xywh
    rows, columns = crop.grid_hw
    if rows < 1 or columns < 1 or rows * columns > MAX_GRID_CELLS:
        raise ValueError(f'grid_hw must have from 1 to {MAX_GRID_CELLS} cells, got {crop.grid_hw}')
    if min(crop.crop_xywh) < 0 or left + width > columns or top + height > rows:
        raise ValueError(f'crop_xywh must lie within {crop.grid_hw} (h, w), got {crop.crop_xywh}')
    if len(crop.values) != width * height:
        raise ValueError(
            f'confidence must have {width * height} values, one for each cell of its crop, got '
            f'{len(crop.values)}'
        )


def _check_size(image_hw: tuple[int, int]) -> None:
    height, width = image_hw
    if height < 1 or width < 1 or height * width > MAX_IMAGE_PIXELS:
        raise ValueError(f'size must be from 1 to {MAX_IMAGE_PIXELS} pixels, got {image_hw}')


def _check_numbers(instance: InstanceRecord) -> None:
    numbers = (*instance.box_xywh, instance.score)
    if len(numbers) != 5 or not all(map(math.isfinite, numbers)) or instance.area < 0:
        raise ValueError(f'box, area and score must be finite numbers, got {instance.box_xywh}')
