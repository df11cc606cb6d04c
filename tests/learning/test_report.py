"""Scores on the held-out images."""

from __future__ import annotations

import json

import pytest
from helpers.training import write_inputs

from cuts3d_mm.labels.coco import write_coco
from cuts3d_mm.labels.record import ImageRecord
from cuts3d_mm.labels.store import write_store
from cuts3d_mm.learning.plan import Folders, Request
from cuts3d_mm.learning.planning import plan_run
from cuts3d_mm.learning.report import commands, scores


def test_an_annotated_image_that_cannot_be_read_gives_no_scores(tmp_path):
    folders = Folders(tmp_path)
    write_coco(folders.held_out, lambda: [])
    failed = ImageRecord('a.png', (0, 0), failure='no image')
    write_store(folders.detections(0), [failed])
    truth = tmp_path / 'truth.json'
    image = {'id': 1, 'file_name': 'a.png', 'height': 20, 'width': 30}
    truth.write_text(json.dumps({'images': [image], 'annotations': [], 'categories': []}))
    assert scores(truth, ['a.png'], folders, [folders.detections(0)]) == (0, [])


def test_a_held_out_image_is_not_taken_for_one_of_the_same_last_part(tmp_path):
    folders, names = Folders(tmp_path), ['cats/a.png', 'dogs/a.png']
    records = [ImageRecord(names[0], (20, 30))]
    write_coco(folders.held_out, lambda: records)
    write_store(folders.detections(0), records)
    truth = tmp_path / 'truth.json'
    image = {'id': 1, 'file_name': 'a.png', 'height': 20, 'width': 30}
    truth.write_text(json.dumps({'images': [image], 'annotations': [], 'categories': []}))
    with pytest.raises(ValueError, match=r'a\.png can be cats/a\.png or dogs/a\.png'):
        scores(truth, names, folders, [folders.detections(0)])


@pytest.mark.parametrize(
    ('changes', 'options'),
    [({}, ''), ({'larger_is': 'near'}, ' --cfg-options model.depth.larger_is=near')],
)
def test_the_commands_by_hand_read_depth_as_the_run_did(tmp_path, changes, options):
    images, depth = write_inputs(tmp_path) / 'images', tmp_path / 'depth'
    depth.mkdir()
    planned = plan_run(Request(images, tmp_path / 'out', offline=True, depth=depth, **changes))
    assert f' LABELS --depth {depth}{options}\n' in commands(planned)
