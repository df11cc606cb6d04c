from __future__ import annotations

import pytest
from drawn import disc

from cuts3d_mm.labels.coco import export_store, read_labels
from cuts3d_mm.labels.record import ImageRecord, encode_instance
from cuts3d_mm.labels.store import write_store

HW = (40, 70)


def test_a_store_and_its_json_hold_the_same_records(tmp_path):
    masks = disc((20, 18), 12, HW), disc((20, 50), 12, HW)
    instances = tuple(encode_instance(mask, None, 0.5) for mask in masks)
    written = [ImageRecord('a.png', HW, instances), ImageRecord('b.png', HW)]
    write_store(tmp_path / 'store', written)
    export_store(tmp_path / 'store', tmp_path / 'labels.json')
    assert list(read_labels(tmp_path / 'store')) == written
    assert list(read_labels(tmp_path / 'labels.json')) == written


def test_labels_that_are_not_there_are_an_error_that_says_what_is_needed(tmp_path):
    with pytest.raises(FileNotFoundError, match='must be a label store or a COCO JSON, found no'):
        read_labels(tmp_path / 'labels')
