"""What a second call makes of what the first one has left."""

from __future__ import annotations

import os

import pytest
from learning_runs import run, write_inputs, write_photos

from cuts3d_mm.files.lock import FolderInUse
from cuts3d_mm.labels.store import read_store
from cuts3d_mm.learning import loop as steps
from cuts3d_mm.learning.planning import look_at
from cuts3d_mm.learning.training import TrainingFailed


@pytest.fixture
def root(tmp_path):
    return write_inputs(tmp_path)


@pytest.fixture(autouse=True)
def _ends_before_training(monkeypatch):
    def fail(*arguments):
        raise TrainingFailed('stopped')

    monkeypatch.setattr(steps, 'train', fail)


def begin(root, **changes):
    with pytest.raises(TrainingFailed):
        run(root, root / 'out', **changes)


def test_a_store_without_a_shard_is_left_out_when_images_have_changed(root):
    begin(root)
    for shard in (root / 'out/pass_1/cut').glob('labels-*.parquet'):
        shard.unlink()
    write_photos(root / 'images', 1, first=6)
    begin(root)
    assert len(list(read_store(root / 'out/pass_2/cut'))) == 7


def test_a_contact_sheet_that_is_missing_is_drawn_though_nothing_is_left_to_cut(root):
    begin(root)
    sheet = root / 'out/contact_sheet.jpg'
    sheet.unlink()
    (root / 'images/005.png').unlink()
    begin(root)
    assert sheet.is_file() and not (root / 'out/pass_2/cut').exists()


def test_a_plan_that_another_run_has_written_meanwhile_is_not_overwritten(root, monkeypatch):
    plan = root / 'out/plan.json'

    def look(images):
        plan.write_text(plan.read_text().replace('"seed": 0', '"seed": 1'))
        return look_at(images)

    begin(root)
    monkeypatch.setattr(steps, 'look_at', look)
    with pytest.raises(FolderInUse, match='another run .* run the same command again'):
        run(root, root / 'out')
    assert '"seed": 1' in plan.read_text()


@pytest.mark.parametrize('num_new', [0, 1])
def test_an_image_that_has_changed_since_it_was_cut_is_named(root, num_new):
    begin(root)
    os.utime(root / 'images/005.png', (1, 1))
    write_photos(root / 'images', num_new, first=6)
    with pytest.raises(ValueError, match=r'1 image changed: 005\.png .* leave .* --exclude'):
        run(root, root / 'out')
    (root / 'bad.txt').write_text('005.png')
    begin(root, exclude=root / 'bad.txt')
