"""Detect in large images tile by tile; whole masks are held as run-length codes only."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco_mask

from cuts3d_mm.algorithm.masks import box_xywh
from cuts3d_mm.arrays import Float, Mask, Pixels
from cuts3d_mm.labels.record import InstanceRecord, decode_mask
from cuts3d_mm.labels.rle import pack_runs, unpack_runs

if TYPE_CHECKING:
    from cuts3d_mm.labellers.detector import Detection, DetectorLabeller

SAME_SHARE = 0.5  # shared area, as IoU or as a share of a part, from which two masks are the same
_BORDER_PX = 2  # a mask that ends so near to the border of its tile may go on in the next tile


@dataclass(frozen=True)
class TiledDetection:
    """An instance of a large image; its mask is unpacked at each use."""

    record: InstanceRecord
    image_hw: tuple[int, int]
    box_xyxy: Float  # (4,) px
    label: int  # number of the class, from 0
    confidence: None = None

    @property
    def mask(self) -> Mask:
        """Mask at the size of the image, (H, W)."""
        return decode_mask(self.record, self.image_hw)

    @property
    def score(self) -> float:
        """Score in [0, 1]."""
        return self.record.score


class TiledDetector:
    """Runs a detector on overlapping tiles of each image, by supervision's `InferenceSlicer`.

    An object that two tiles show whole is kept once, by its score. What the border of a tile
    cuts off gives way to what shows at least half of it. An object that fits into no overlap
    may be found in parts.

    Args:
        detector: detector on its device.
        tile_px: side of a tile, in pixels.
        overlap: overlap of two tiles, as a share of their side, in [0, 1).

    Raises:
        ValueError: a number out of its range.
        ImportError: supervision is not installed.
    """

    def __init__(self, detector: DetectorLabeller, tile_px: int, overlap: float) -> None:
        check_tiles(tile_px, overlap)
        self._detector, self._tile_px = detector, tile_px
        self._overlap_px = min(round(tile_px * overlap), tile_px - 1)

    def predict_batch(
        self, images: Sequence[Pixels], at_once: int = 1
    ) -> list[tuple[TiledDetection, ...]]:
        """Find the instances of images, the best first; `at_once` is a number of tiles."""
        return [self._predict(image, at_once) for image in images]

    def _predict(self, image: Pixels, at_once: int) -> tuple[TiledDetection, ...]:
        import supervision

        from cuts3d_mm.labellers.detector import category_of

        slicer = supervision.InferenceSlicer(
            self._find if at_once > 1 else lambda tile: self._find([tile])[0],
            slice_wh=self._tile_px,
            overlap_wh=self._overlap_px,
            overlap_filter='none',  # what is found twice is dropped below
            compact_masks=True,
            batch_size=at_once,
        )
        found: Any = slicer(image)
        image_hw = image.shape[0], image.shape[1]
        instances, are_cut = [], []
        for index in range(len(found)):
            crop = found.mask.crop(index)
            left, top = map(int, found.mask.offsets[index])
            record = _encode_crop(crop, (top, left), image_hw, float(found.confidence[index]))
            if record is None:
                continue
            x, y, width, height = record.box_xywh
            room = np.array([x, y, image_hw[1] - x - width, image_hw[0] - y - height])
            are_cut.append(bool((found.data['ends'][index] & (room > _BORDER_PX)).any()))
            label = int(found.class_id[index])
            record = replace(record, category=category_of(label, self._detector.classes))
            instances.append(TiledDetection(record, image_hw, found.xyxy[index], label))
        kept = [instances[index] for index in _distinct(instances, are_cut)]
        return tuple(sorted(kept, key=lambda one: -one.score))

    def _find(self, tiles: Sequence[Pixels]) -> list[Any]:
        """Detect in tiles, and note at which sides a mask ends at the border of its tile."""
        import supervision

        from .results import to_supervision

        found = self._detector.predict_batch(
            [np.ascontiguousarray(tile) for tile in tiles], len(tiles)
        )
        detections = []
        for instances, tile in zip(found, tiles, strict=True):
            arguments: dict[str, Any] = {**to_supervision(instances, tile.shape[:2])}
            arguments['data'] = {'ends': _ends_of(instances)}
            detections.append(supervision.Detections(**arguments))
        return detections


def check_tiles(tile_px: int, overlap: float) -> None:
    """Check what tiles are made by as `TiledDetector` does, before long work begins."""
    if tile_px < 1 or not 0 <= overlap < 1:
        raise ValueError(
            f'tiles must have at least 1 px and overlap in [0, 1), got {tile_px}, {overlap}'
        )
    if find_spec('supervision') is None:
        raise ImportError('tiles need supervision; pip install cuts3d_mm[tiles]')


def _ends_of(instances: Sequence[Detection]) -> NDArray[np.bool_]:
    """Sides (left, top, right, bottom) at whose border a mask ends, (N, 4)."""
    near = slice(None, _BORDER_PX + 1)
    sides = [
        (mask[:, near], mask[near], mask[:, ::-1][:, near], mask[::-1][near])
        for mask in (one.mask for one in instances)
    ]
    return np.array([[side.any() for side in one] for one in sides], bool).reshape(-1, 4)


def _encode_crop(
    crop: Mask, top_left: tuple[int, int], image_hw: tuple[int, int], score: float
) -> InstanceRecord | None:
    """Pack a part of a mask as one of the whole image; None if it is empty."""
    x, y, width, height = box_xywh(crop)
    if not width:
        return None
    top, left = top_left[0] + y, top_left[1] + x
    strip = np.zeros((image_hw[0], width), np.uint8, order='F')
    strip[top : top + height] = crop[y : y + height, x : x + width]
    runs = unpack_runs(coco_mask.encode(strip)['counts'])
    runs[0] += left * image_hw[0]  # run lengths go down the columns
    rest = (image_hw[1] - left - width) * image_hw[0]
    runs = np.append(runs, [rest] if len(runs) % 2 == 0 else [0, rest])
    box = float(left), float(top), float(width), float(height)
    return InstanceRecord(box, int(strip.sum()), pack_runs(runs, image_hw), score, None)


def _distinct(instances: Sequence[TiledDetection], are_cut: Sequence[bool]) -> list[int]:
    """Choose instances of which no two are the same: whole ones first, then by score."""
    codes = [{'size': list(one.image_hw), 'counts': one.record.rle} for one in instances]
    low_xy, side_wh = np.split(
        np.reshape([one.record.box_xywh for one in instances], (-1, 4)), 2, axis=1
    )
    kept: list[int] = []
    for index in sorted(range(len(instances)), key=lambda n: (are_cut[n], -instances[n].score)):
        near = np.array(kept, int)
        starts_before = low_xy[near] < low_xy[index] + side_wh[index]
        ends_behind = low_xy[near] + side_wh[near] > low_xy[index]
        near = near[(starts_before & ends_behind).all(axis=1)]
        # With a "crowd", pycocotools gives the share of the first mask that the other covers.
        marks = [int(are_cut[index])] * len(near)
        shared = coco_mask.iou([codes[index]], [codes[n] for n in near], marks)
        if not len(near) or np.max(shared) < SAME_SHARE:
            kept.append(index)
    return kept
