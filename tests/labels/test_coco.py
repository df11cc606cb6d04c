from __future__ import annotations

import contextlib
import io
import json

import numpy as np
import pytest
from drawn import disc
from pycocotools.coco import COCO

from cuts3d_mm.labels.coco import coco_annotation, read_coco, write_coco
from cuts3d_mm.labels.record import ImageRecord, decode_mask, encode_instance


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


def test_polygons_are_rasterised_and_crowds_left_out(tmp_path):
    image = {'id': 7, 'file_name': 'x.jpg', 'height': 20, 'width': 40}
    polygon = [[5, 5, 25, 5, 25, 15, 5, 15]]
    common = {'image_id': 7, 'bbox': [5, 5, 20, 10], 'category_id': 3}
    annotations = [
        {'id': 1, **common, 'segmentation': polygon, 'iscrowd': 0},
        {'id': 2, **common, 'segmentation': {'size': [20, 40], 'counts': [800]}, 'iscrowd': 1},
    ]
    path = tmp_path / 'gt.json'
    path.write_text(json.dumps({'images': [image], 'annotations': annotations}))
    (record,) = read_coco(path)
    (instance,) = record.instances
    assert decode_mask(instance, (20, 40))[6:14, 6:24].all()
    assert instance.confidence is None and instance.score == 1


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
