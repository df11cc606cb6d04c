from __future__ import annotations

import contextlib
import io
import json
from pathlib import Path

import numpy as np
import pytest
from helpers.drawn import disc, iou
from PIL import Image
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO
from scipy import ndimage

from cuts3d_mm.labels.coco import (
    LEAST_IOU,
    coco_annotation,
    export_store,
    mask_polygons,
    read_coco,
    read_labels,
    read_results,
    write_coco,
    write_results,
)
from cuts3d_mm.labels.record import ImageRecord, decode_mask, encode_instance
from cuts3d_mm.labels.store import write_store


def records():
    confidence = np.linspace(0, 1, 60, dtype=np.float32).reshape(6, 10)
    instance = encode_instance(disc((9, 12), 5, (30, 50)), confidence, 0.75)
    return [
        ImageRecord('a/one.jpg', (30, 50), (instance, instance)),
        ImageRecord('broken.jpg', (0, 0), failure='why'),
        ImageRecord('two.jpg', (8, 4)),
    ]


def test_export_loads_in_pycocotools(tmp_path):
    path = tmp_path / 'labels.json'
    assert write_coco(path, records) == 2
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO(str(path))
    assert [image['file_name'] for image in coco.dataset['images']] == ['a/one.jpg', 'two.jpg']
    assert len(coco.getAnnIds(imgIds=1)) == 2
    assert (coco.annToMask(coco.anns[1]) == disc((9, 12), 5, (30, 50))).all()
    assert coco.imgs[1]['height'] == 30 and coco.imgs[1]['width'] == 50


def test_import_gives_back_what_was_exported(tmp_path):
    path = tmp_path / 'labels.json'
    write_coco(path, records)
    assert list(read_coco(path)) == [r for r in records() if r.failure is None]


def test_confidence_of_an_older_export_was_raised(tmp_path):
    path = tmp_path / 'labels.json'
    write_coco(path, records)
    exported = json.loads(path.read_text())
    assert [one['confidence'].pop('lower_bound') for one in exported['annotations']] == [0, 0]
    path.write_text(json.dumps(exported))
    assert next(read_coco(path)).instances[0].confidence.lower_bound == 128


def test_a_device_without_an_end_is_refused():
    with pytest.raises(ValueError, match='/dev/zero must be a COCO JSON: must be a file'):
        next(read_coco(Path('/dev/zero')))


@pytest.mark.parametrize('text', ['no json', '[]', '{"images": []}'])
def test_other_json_is_refused(tmp_path, text):
    path = tmp_path / 'x.json'
    path.write_text(text)
    with pytest.raises(ValueError, match='must be a COCO JSON'):
        list(read_coco(path))


def swapped_file(path, swap):
    mask = disc((9, 12), 5, (30, 50))
    code = encode_instance(mask, None, 1.0)
    annotation = coco_annotation(code, mask.shape)
    images, annotations = [], []
    for index in range(3):
        height, width = (50, 30) if index in swap else (30, 50)
        images.append({'id': index, 'file_name': f'{index}.jpg', 'height': height, 'width': width})
        annotations.append({**annotation, 'id': index, 'image_id': index})
    path.write_text(json.dumps({'images': images, 'annotations': annotations}))
    return mask


def test_swapped_sizes_are_corrected_with_a_warning_that_says_how_many(tmp_path):
    mask = swapped_file(tmp_path / 'cutler.json', swap=(0, 2))
    with pytest.warns(UserWarning, match='swapped in 2 of 3 images; corrected'):
        records = list(read_coco(tmp_path / 'cutler.json'))
    for record in records:
        assert record.image_hw == (30, 50)
        assert (decode_mask(record.instances[0], record.image_hw) == mask).all()


def test_masks_of_any_other_size_are_an_error_that_names_the_image(tmp_path):
    swapped_file(tmp_path / 'bad.json', swap=())
    dataset = json.loads((tmp_path / 'bad.json').read_text())
    dataset['images'][1]['height'] = 31
    (tmp_path / 'bad.json').write_text(json.dumps(dataset))
    with pytest.raises(ValueError, match=r'masks of 1.jpg must have .*\(31, 50\)'):
        list(read_coco(tmp_path / 'bad.json'))


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


STORE_HW = (40, 70)


def test_a_store_and_its_json_hold_the_same_records(tmp_path):
    masks = disc((20, 18), 12, STORE_HW), disc((20, 50), 12, STORE_HW)
    instances = tuple(encode_instance(mask, None, 0.5) for mask in masks)
    written = [ImageRecord('a.png', STORE_HW, instances), ImageRecord('b.png', STORE_HW)]
    write_store(tmp_path / 'store', written)
    export_store(tmp_path / 'store', tmp_path / 'labels.json')
    assert list(read_labels(tmp_path / 'store')) == written
    assert list(read_labels(tmp_path / 'labels.json')) == written


def test_labels_that_are_not_there_are_an_error_that_says_what_is_needed(tmp_path):
    with pytest.raises(FileNotFoundError, match='must be a label store or a COCO JSON, found no'):
        read_labels(tmp_path / 'labels')


def test_a_results_list_is_read_by_pycocotools_and_by_us(tmp_path):
    write_coco(tmp_path / 'truth.json', records)
    write_results(tmp_path / 'results.json', records())
    with contextlib.redirect_stdout(io.StringIO()):
        loaded = COCO(str(tmp_path / 'truth.json')).loadRes(str(tmp_path / 'results.json'))
    assert (loaded.annToMask(loaded.anns[2]) == disc((9, 12), 5, (30, 50))).all()
    read = list(read_results(tmp_path / 'results.json', {1: (30, 50), 2: (8, 4)}))
    assert len(read) == 2 and read[0]['segmentation'] == loaded.anns[1]['segmentation']
    write_results(tmp_path / 'named.json', records(), {'a/one.jpg': 70, 'two.jpg': 8})
    assert {one['image_id'] for one in json.loads((tmp_path / 'named.json').read_text())} == {70}


@pytest.mark.parametrize(
    ('entry', 'message'),
    [
        ({'image_id': 9}, r'\[0\] image_id must be that of an annotated image, got 9'),
        ({'segmentation': None}, r'\[0\] segmentation must be there'),
        ({'segmentation': {'size': [9, 9], 'counts': '1'}}, r'\[0\] size must be \[30, 50\]'),
        ({'score': 'high'}, 'must be a COCO results list'),
        ({'score': float('nan')}, 'must be a COCO results list'),
    ],
)
def test_a_wrong_result_is_named(tmp_path, entry, message):
    write_results(tmp_path / 'results.json', records())
    results = json.loads((tmp_path / 'results.json').read_text())
    (tmp_path / 'results.json').write_text(json.dumps([{**results[0], **entry}]))
    with pytest.raises(ValueError, match=message):
        list(read_results(tmp_path / 'results.json', {1: (30, 50)}))
