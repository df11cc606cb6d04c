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


@pytest.fixture
def truth(tmp_path):
    """Annotations of a.png."""
    image = {'id': 1, 'file_name': 'a.png', 'height': 20, 'width': 30}
    content = {'images': [image], 'annotations': [], 'categories': []}
    (tmp_path / 'truth.json').write_text(json.dumps(content))
    return tmp_path / 'truth.json'


def scores_of(truth, folders, names, detected, held_out=()):
    write_coco(folders.held_out, lambda: held_out)
    write_store(folders.detections(0), detected)
    return scores(truth, names, folders, [folders.detections(0)])


def test_an_annotated_image_that_cannot_be_read_gives_no_scores(tmp_path, truth):
    failed = ImageRecord('a.png', (0, 0), failure='no image')
    assert scores_of(truth, Folders(tmp_path), ['a.png'], [failed]) == (0, [])


def test_a_held_out_image_is_not_taken_for_one_of_the_same_last_part(tmp_path, truth):
    names = ['cats/a.png', 'dogs/a.png']
    records = [ImageRecord(names[0], (20, 30))]
    with pytest.raises(ValueError, match=r'a\.png can be cats/a\.png or dogs/a\.png'):
        scores_of(truth, Folders(tmp_path), names, records, records)


@pytest.mark.parametrize(
    ('changes', 'options'),
    [({}, ''), ({'larger_is': 'near'}, ' --cfg-options model.depth.larger_is=near')],
)
def test_the_commands_by_hand_read_depth_as_the_run_did(tmp_path, changes, options):
    images, depth = write_inputs(tmp_path) / 'images', tmp_path / 'depth'
    depth.mkdir()
    planned = plan_run(Request(images, tmp_path / 'out', offline=True, depth=depth, **changes))
    assert f' LABELS --depth {depth}{options}\n' in commands(planned)
