from __future__ import annotations

import numpy as np

from cuts3d_mm.labels.merging import LabelStatistics
from cuts3d_mm.labels.record import ImageRecord, encode_instance

HW = (20, 30)


def record_of(*areas):
    """An image with instances of so many pixels."""
    instances = []
    for area in areas:
        mask = np.arange(HW[0] * HW[1]).reshape(HW) < area
        instances.append(encode_instance(mask, None, 1.0))
    return ImageRecord(f'{areas}.jpg', HW, tuple(instances))


def test_images_are_counted_by_their_instances_and_instances_by_their_area():
    # Of 600 pixels: below 1 %, exactly 1 %, 3 %, 5 %, 20 %, 40 %.
    records = [record_of(5, 6, 18), record_of(30), record_of(), record_of(*[120] * 6, 240)]
    records.append(ImageRecord('broken.jpg', (0, 0), failure='cannot be read'))
    found = LabelStatistics.of(records)
    assert (found.num_images, found.num_failures, found.num_instances) == (4, 1, 11)
    assert found.images_by_count == {0: 1, 1: 1, 3: 1, 4: 1}
    assert found.instances_by_area == {0: 1, 1: 2, 2: 1, 3: 6, 4: 1}
    rows = dict(found.rows())
    assert rows['instances per image'] == '2.75'
    assert rows['images with 4 or more'] == '25.0 %'
    assert rows['area 0% to 1% of the image'] == '9.1 %'
    assert rows['area 36% to 100% of the image'] == '9.1 %'


def test_no_labels_are_no_error():
    assert dict(LabelStatistics.of([]).rows())['instances per image'] == '0.00'
