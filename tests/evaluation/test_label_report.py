from __future__ import annotations

import json

import numpy as np
import pytest
from drawn import disc
from PIL import Image

from cuts3d_mm.evaluation.label_scores import ScoreReport
from cuts3d_mm.images.reading import read_image
from cuts3d_mm.labels.coco import coco_annotation, write_coco
from cuts3d_mm.labels.record import ImageRecord, encode_instance

HW = (40, 70)
LEFT, RIGHT = disc((20, 18), 12, HW), disc((20, 50), 12, HW)


def record(name, *masks):
    return ImageRecord(name, HW, tuple(encode_instance(m, None, 0.9) for m in masks))


def truth_of(*records):
    images, annotations = [], []
    for image_id, one in enumerate(records, start=1):
        images.append({'id': image_id, 'file_name': one.name, 'height': HW[0], 'width': HW[1]})
        for instance in one.instances:
            ids = {'id': len(annotations) + 1, 'image_id': image_id}
            annotations.append(coco_annotation(instance, HW) | ids)
    return {'images': images, 'annotations': annotations}


TRUTH = truth_of(record('a.png', LEFT), record('b.png', LEFT, RIGHT))


def test_report_draws_the_image_that_got_worst(tmp_path):
    for name in ('a.png', 'b.png'):
        Image.fromarray(np.full((*HW, 3), 120, np.uint8)).save(tmp_path / name)
    (tmp_path / 'gt.json').write_text(json.dumps(TRUTH))
    sides = {'old': [record('a.png', LEFT)], 'new': [record('a.png', RIGHT)]}
    for name, records in sides.items():
        write_coco(tmp_path / f'{name}.json', lambda records=records: records)
    report = ScoreReport.of(*(tmp_path / f'{n}.json' for n in ('new', 'gt', 'old')))
    assert '1 worse' in report.comparison() and 'a.png' in report.comparison()
    assert '| 2-3' in report.table_by_count() and report.plot().axes
    assert report.draw_worst(tmp_path, tmp_path / 'out', 1) == []
    (picture,) = (tmp_path / 'out').iterdir()
    assert picture.name == '000_a.png' and Image.open(picture).size == (3 * HW[1], HW[0])


def report_of(tmp_path, *names):
    (tmp_path / 'gt.json').write_text(json.dumps(TRUTH))
    write_coco(tmp_path / 'labels.json', lambda: [record('a.png', RIGHT)])
    against = tmp_path / 'labels.json' if 'against' in names else None
    return ScoreReport.of(tmp_path / 'labels.json', tmp_path / 'gt.json', against)


def test_a_comparison_without_earlier_labels_is_refused(tmp_path):
    report = report_of(tmp_path)
    for use in (report.comparison, report.changes):
        with pytest.raises(ValueError, match='needs earlier labels, got none'):
            use()


def test_images_of_16_bit_are_drawn_as_they_are_labelled(tmp_path, rng):
    grey = rng.integers(0, 65536, HW, dtype=np.uint16)
    Image.fromarray(grey).save(tmp_path / 'a.png')
    report = report_of(tmp_path, 'against')
    assert report.draw_worst(tmp_path, tmp_path / 'out', 1) == []
    drawn = np.asarray(Image.open(tmp_path / 'out/000_a.png'))[:, : HW[1]]
    expected = read_image(tmp_path / 'a.png')
    far = ~disc((20, 18), 16, HW)  # off the mask and its outline
    assert (drawn[far] == expected[far]).all() and expected.max() > 200
