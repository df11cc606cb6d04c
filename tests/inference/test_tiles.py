"""Large images are detected tile by tile, and every object is kept once and whole."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from helpers.drawn import disc, iou
from scipy import ndimage

from cuts3d_mm.inference.results import to_index_image, to_record
from cuts3d_mm.inference.tiles import TiledDetector, _encode_crop
from cuts3d_mm.inference.writing import draw_detections
from cuts3d_mm.labellers.detector import Detection
from cuts3d_mm.labels.record import encode_instance

pytest.importorskip('supervision')
HW = (200, 330)
# Whole in one tile; on the border of two and of four tiles; at the borders of the image.
CENTERS = [(40, 40), (60, 95), (95, 190), (10, 320), (192, 5), (150, 260)]


class BrightParts:
    """Finds what is connected and bright; what is larger has the smaller score."""

    classes = ('ball',)

    def __init__(self):
        self.sizes = []

    def predict_batch(self, images, at_once):
        assert len(images) <= at_once
        self.sizes += [image.shape[:2] for image in images]
        return [self.predict(image) for image in images]

    def predict(self, image):
        parts, count = ndimage.label(image[..., 0] > 128)
        masks = [parts == number + 1 for number in range(count)]
        boxes = [np.array([0, 0, *mask.shape[::-1]], 'f4') for mask in masks]
        return tuple(
            Detection(mask, None, 1 / (1 + mask.sum()), box, 0)
            for mask, box in zip(masks, boxes, strict=True)
        )


def scene(centers=CENTERS, image_hw=HW, radius=11):
    masks = [disc(center, radius, image_hw) for center in centers]
    image = np.zeros((*image_hw, 3), np.uint8)
    image[np.any(masks, axis=0)] = 255
    return image, masks


@pytest.mark.parametrize('at_once', [1, 4])
def test_every_object_is_found_once_and_whole(at_once):
    image, masks = scene()
    detector = BrightParts()
    (found,) = TiledDetector(detector, 100, 0.3).predict_batch([image], at_once)
    assert max(max(size) for size in detector.sizes) <= 100 and len(detector.sizes) > 4
    assert len(found) == len(masks)
    for mask in masks:
        assert sum(iou(one.mask, mask) == 1 for one in found) == 1
    assert [one.score for one in found] == sorted((one.score for one in found), reverse=True)
    record = to_record(found, HW, 'x.png')
    assert record.instances == tuple(
        encode_instance(one.mask, None, one.score, category='ball') for one in found
    )


def test_an_image_smaller_than_a_tile_and_one_without_objects_are_detected():
    image, masks = scene()
    (found,) = TiledDetector(BrightParts(), 640, 0.2).predict_batch([image])
    assert len(found) == len(masks)
    assert TiledDetector(BrightParts(), 64, 0.2).predict_batch([image * 0]) == [()]


def test_a_mask_of_a_tile_lies_at_its_place_in_the_image(rng):
    for _ in range(20):
        crop = rng.random(rng.integers(1, 9, 2)) > 0.5
        top, left = (int(rng.integers(0, n)) for n in np.subtract((13, 18), crop.shape))
        mask = np.zeros((12, 17), bool)
        mask[top : top + crop.shape[0], left : left + crop.shape[1]] = crop
        found = _encode_crop(crop, (top, left), mask.shape, 0.5)
        assert found == (encode_instance(mask, None, 0.5) if mask.any() else None)


def test_whole_masks_are_not_held_at_once():
    """Of 63 objects, the masks alone would take 63 times 6 megabytes."""
    image_hw = (2000, 3000)
    centers = [(row, column) for row in range(150, 2000, 250) for column in range(150, 3000, 320)]
    image, _ = scene(centers[:1], image_hw, 30)
    for center in centers:
        rows, columns = (slice(value - 30, value + 31) for value in center)
        image[rows, columns] = np.where(disc((30, 30), 30, (61, 61))[..., None], 255, 0)
    tracemalloc.start()
    try:
        (found,) = TiledDetector(BrightParts(), 400, 0.2).predict_batch([image])
        drawn = draw_detections(image, found)
        index = to_index_image(found, image_hw)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert len(found) == len(centers) and peak < 20 * 6e6
    assert drawn.shape == image.shape and len(np.unique(index)) == len(centers) + 1


@pytest.mark.parametrize(('tile_px', 'overlap'), [(0, 0.2), (64, 1.0), (64, -0.1)])
def test_tiles_without_a_step_are_refused(tile_px, overlap):
    with pytest.raises(ValueError, match=r'at least 1 px and overlap in \[0, 1\)'):
        TiledDetector(BrightParts(), tile_px, overlap)
