from __future__ import annotations

import json

import pytest
from drawn import disc
from mmdet.registry import DATASETS

from cuts3d_mm.labels.coco import coco_annotation
from cuts3d_mm.labels.record import encode_instance


@pytest.mark.slow
def test_all_classes_become_one(tmp_path):
    annotation = coco_annotation(encode_instance(disc((9, 12), 5, (30, 50)), None, 1), (30, 50))
    found = [
        {**annotation, 'id': n, 'image_id': 1, 'category_id': c, 'iscrowd': int(c == 90)}
        for n, c in enumerate((3, 17, 90), start=1)
    ]
    dataset = {
        'images': [{'id': 1, 'file_name': 'a.jpg', 'height': 30, 'width': 50}],
        'annotations': found,
        'categories': [{'id': c, 'name': str(c)} for c in (3, 17, 90)],
    }
    (tmp_path / 'gt.json').write_text(json.dumps(dataset))
    built = DATASETS.build(
        {
            'type': 'cuts3d_mm.ClassAgnosticCocoDataset',
            'data_root': str(tmp_path),
            'ann_file': 'gt.json',
            'data_prefix': {'img': ''},
            'pipeline': [],
        }
    )
    instances = built.get_data_info(0)['instances']
    assert [one['bbox_label'] for one in instances] == [0, 0, 0]
    assert [one['ignore_flag'] for one in instances] == [0, 0, 1]
