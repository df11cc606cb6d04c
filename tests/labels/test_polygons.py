from __future__ import annotations

import numpy as np
import pytest
from drawn import disc, iou
from PIL import Image
from pycocotools import mask as coco_mask
from scipy import ndimage

from cuts3d_mm.labels.coco import LEAST_IOU, mask_polygons, read_coco, write_coco
from cuts3d_mm.labels.record import ImageRecord, decode_mask, encode_instance

HW = (60, 90)
RING = disc((30, 40), 20, HW) & ~disc((30, 40), 10, HW)


def rasterised(polygons, image_hw):
    code = coco_mask.merge(coco_mask.frPyObjects(polygons, *image_hw))
    return coco_mask.decode(code).astype(bool)


def blobs(rng, image_hw, sigma):
    noise = ndimage.gaussian_filter(rng.standard_normal(image_hw), sigma)
    return noise > np.quantile(noise, 0.6)


@pytest.mark.parametrize('sigma_px', [0, 1, 3, 6])
def test_polygons_are_rasterised_to_nearly_the_same_mask(rng, sigma_px):
    """Whatever its parts and holes; at the border of the image, too."""
    for _ in range(5):
        mask = blobs(rng, HW, sigma_px)
        assert iou(rasterised(mask_polygons(mask), HW), mask) >= LEAST_IOU


@pytest.mark.parametrize(
    'mask', [disc((9, 12), 0.4, HW), disc((9, 12), 1, HW), np.eye(60, 90) > 0]
)
def test_thin_masks_are_rasterised_to_the_pixel(mask):
    assert (rasterised(mask_polygons(mask), HW) == mask).all()


def test_each_part_is_a_polygon_of_a_few_points():
    mask = disc((20, 20), 15, HW) | disc((40, 65), 15, HW)
    polygons = mask_polygons(mask)
    assert len(polygons) == 2
    assert all(12 <= len(polygon) <= 80 for polygon in polygons)  # of 180 unit steps


def test_holes_and_what_lies_in_them_stay():
    mask = RING & ~disc((30, 25), 3, HW) & ~disc((30, 55), 3, HW) | disc((30, 40), 4, HW)
    polygons = mask_polygons(mask)
    found = rasterised(polygons, HW)
    assert len(polygons) == 2 and found[30, 40]
    assert not found[[30, 30, 30], [25, 33, 55]].any()


def test_a_rectangle_has_the_corners_of_its_pixels():
    mask = np.zeros(HW, bool)
    mask[10:30, 20:70] = True
    (polygon,) = mask_polygons(mask)
    x, y = np.reshape(polygon, (-1, 2)).T
    assert [x.min(), x.max(), y.min(), y.max()] == [20, 70, 10, 30]


def test_a_file_of_polygons_is_read_to_the_same_labels(tmp_path):
    confidence = np.full((6, 9), 0.5, np.float32)
    record = ImageRecord('a.png', HW, (encode_instance(RING, confidence, 0.75),))
    write_coco(tmp_path / 'polygons.json', lambda: [record], as_polygons=True)
    (read,) = read_coco(tmp_path / 'polygons.json')
    (instance,) = read.instances
    assert instance.confidence == record.instances[0].confidence and instance.score == 0.75
    assert iou(decode_mask(instance, HW), RING) >= LEAST_IOU


@pytest.mark.parametrize(('as_polygons', 'least_iou'), [(False, 1.0), (True, 0.85)])
def test_supervision_reads_both_files(tmp_path, as_polygons, least_iou):
    """It rounds polygons to whole pixels."""
    supervision = pytest.importorskip('supervision')
    masks = [RING, disc((20, 70), 8, HW) | disc((48, 75), 9, HW)]
    Image.new('RGB', HW[::-1]).save(tmp_path / 'a.png')
    record = ImageRecord('a.png', HW, tuple(encode_instance(mask, None, 0.5) for mask in masks))
    write_coco(tmp_path / 'x.json', lambda: [record], as_polygons)
    given = str(tmp_path), str(tmp_path / 'x.json')
    ((_, _, found),) = supervision.DetectionDataset.from_coco(*given, force_masks=True)
    assert all(iou(*pair) >= least_iou for pair in zip(found.mask, masks, strict=True))
