"""Draw labels of some images on one sheet."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import cv2
import numpy as np

from cuts3d_mm.arrays import Pixels
from cuts3d_mm.images.reading import ImageFailure, read_named_image
from cuts3d_mm.labels.record import ImageRecord, decode_mask
from cuts3d_mm.visualization.overlays import draw_instances

NUM_SHOWN = 36  # images
_COLUMNS, _TILE_WH, _GAP = 6, (240, 180), 4  # pixels


def draw_record(
    root: Path, record: ImageRecord, longest_px: int, score_thr: float = 0.0
) -> Pixels | None:
    """Draw the instances of an image, made small; None where it cannot be read.

    Args:
        root: folder of the images.
        record: labels of one.
        longest_px: longer side of the picture.
        score_thr: smallest score of an instance that is drawn.
    """
    if record.failure is not None:
        return None
    try:
        pixels = read_named_image(root, record.name)
    except ImageFailure:
        return None
    if pixels.shape[:2] != record.image_hw:
        return None
    factor = min(1.0, longest_px / max(record.image_hw))
    size_wh = tuple(max(1, round(side * factor)) for side in record.image_hw[::-1])
    shown = [one for one in record.instances if one.score >= score_thr]
    masks = [_resized(decode_mask(one, record.image_hw), size_wh) for one in shown]
    small = np.asarray(cv2.resize(pixels, size_wh, interpolation=cv2.INTER_AREA), np.uint8)
    return draw_instances(small, masks)


def draw_sheet(root: Path, records: Iterable[ImageRecord]) -> Pixels:
    """Draw images in a grid, (H, W, 3) uint8 RGB; those that cannot be read are left out."""
    pictures = [draw_record(root, record, max(_TILE_WH)) for record in records]
    tiles = [_tile(picture) for picture in pictures if picture is not None]
    rows = [tiles[start : start + _COLUMNS] for start in range(0, len(tiles), _COLUMNS)]
    return np.concatenate([_row(row) for row in rows or [[]]], axis=0)


def _tile(picture: Pixels) -> Pixels:
    """Fit a picture into a tile, on white."""
    width, height = _TILE_WH
    factor = min(width / picture.shape[1], height / picture.shape[0], 1.0)
    size_wh = tuple(max(1, int(side * factor)) for side in picture.shape[1::-1])
    small = cv2.resize(picture, size_wh, interpolation=cv2.INTER_AREA)
    tile = np.full((height + _GAP, width + _GAP, 3), 255, np.uint8)
    top, left = (height - small.shape[0]) // 2, (width - small.shape[1]) // 2
    tile[top : top + small.shape[0], left : left + small.shape[1]] = small
    return tile


def _row(tiles: Sequence[Pixels]) -> Pixels:
    width, height = _TILE_WH
    blank = np.full((height + _GAP, width + _GAP, 3), 255, np.uint8)
    return np.concatenate([*tiles, *[blank] * (_COLUMNS - len(tiles))], axis=1)


def _resized(mask: np.ndarray, size_wh: tuple[int, ...]) -> np.ndarray:
    small = cv2.resize(mask.astype(np.uint8), size_wh, interpolation=cv2.INTER_NEAREST)
    return small.astype(bool)
