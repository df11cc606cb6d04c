"""From a folder of images to a detector, and what happens at the second call."""

from __future__ import annotations

import json

import numpy as np
import pytest
from learning_runs import IMAGE_HW, INITIAL, ROUND, run, same_weights, write_inputs, write_photos

import cuts3d_mm
from cuts3d_mm.labels.coco import write_coco
from cuts3d_mm.labels.merging import KeptPredictions, MergeRule
from cuts3d_mm.labels.store import read_store

pytestmark = pytest.mark.slow


@pytest.fixture(scope='module')
def root(tmp_path_factory):
    return write_inputs(tmp_path_factory.mktemp('inputs'))


@pytest.fixture(scope='module')
def learned(root):
    """A run with one round of self-training."""
    run(root, root / 'out', rounds=1)
    return root / 'out'


def test_the_release_can_be_published_as_it_is(learned, cuts3d):
    code, out, err = cuts3d('publish', learned / 'release', '--repo', 'owner/name', '--dry-run')
    assert code == 0, err
    assert 'license: unknown' in (learned / 'release/README.md').read_text()
    assert 'owner/name would get' in out and 'model.safetensors' in out
    code, _, err = cuts3d('publish', learned / 'plan.json', '--repo', 'owner/name')
    assert code == 2 and 'CONFIG and CHECKPOINT, or a release folder alone' in err


def test_the_release_is_a_detector(learned):
    detector = cuts3d_mm.load_detector(learned / 'release', score_thr=0.0)
    found = detector.predict(np.zeros((*IMAGE_HW, 3), np.uint8))
    assert all(one.mask.shape == IMAGE_HW for one in found)


def test_held_out_images_are_watched_and_not_trained_on(learned):
    trained_on = {record.name for record in read_store(learned / 'pass_1' / 'labels')}
    held_out = json.loads((learned / 'pass_1' / 'held_out.json').read_text())
    watched = {image['file_name'] for image in held_out['images']}
    assert watched and not watched & trained_on and len(watched | trained_on) == 6


def test_the_report_shows_each_round_next_to_the_pseudo_labels(learned):
    page = (learned / 'report.html').read_text()
    for caption in ('pseudo-labels: ', 'initial round: ', 'round 1: '):
        assert f'<figcaption>{caption}' in page
    assert 'src="data:image/' in page and 'src="http' not in page
    assert 'cuts3d generate' in page and 'hand-made' in page
    # Typed as shown, no command writes into the run.
    assert '--work-dir WORK_DIR' in page and f'{learned / "pass_1" / "cut"}' not in page


def test_the_report_says_how_many_predictions_became_labels(learned):
    page = (learned / 'report.html').read_text()
    assert 'predictions that became labels' in page
    kept = KeptPredictions.of(learned / 'pass_1/training/round_1/predictions', MergeRule(0.02))
    assert f'{kept.num_kept:,} of {kept.num_all:,}' in page


def test_the_same_command_again_changes_nothing(root, learned):
    files = [
        learned / 'plan.json',
        learned / 'pass_1' / 'training' / f'iter_{INITIAL + ROUND}.pth',
    ]
    before = [path.stat().st_mtime_ns for path in files]
    run(root, learned)
    assert [path.stat().st_mtime_ns for path in files] == before


def test_more_rounds_give_the_weights_of_a_run_that_had_them_from_the_start(root, learned):
    said = run(root, learned, rounds=2)
    assert any('2 rounds instead of 1' in line for line in said)
    run(root, root / 'direct', rounds=2)
    assert same_weights(learned, root / 'direct')
    with pytest.raises(ValueError, match=r'--rounds must be at least the 2 of the plan'):
        run(root, learned, rounds=1)


def test_a_setting_that_the_plan_fixes_cannot_be_changed(root, learned):
    with pytest.raises(ValueError, match=r'--seed must stay 0, as the plan in .* choose another'):
        run(root, learned, seed=1)


def test_more_images_are_cut_and_training_starts_again_from_the_last_round(root, tmp_path):
    inputs = write_inputs(tmp_path / 'inputs')
    run(inputs, tmp_path / 'out', rounds=0)
    write_photos(inputs / 'images', 3, first=6)
    said = run(inputs, tmp_path / 'out')
    news = next(line for line in said if line.startswith('new: '))
    assert '3 images are new' in news and 'pass_1/training/round_1/begin.pth' in news
    cut = [record.name for record in read_store(tmp_path / 'out' / 'pass_2' / 'cut')]
    assert cut == ['006.png', '007.png', '008.png']
    config = (tmp_path / 'out' / 'pass_2' / 'training.py').read_text()
    assert 'pass_1/training/round_1/begin.pth' in config


def test_annotations_score_labels_and_every_round(root, learned, tmp_path):
    write_coco(tmp_path / 'truth.json', lambda: read_store(learned / 'pass_1' / 'cut'))
    run(root, learned, annotations=tmp_path / 'truth.json')
    page = (learned / 'report.html').read_text()
    assert 'against the annotations' in page
    labels = page[page.index('<td>pseudo-labels</td>') :]
    assert labels.startswith('<td>pseudo-labels</td><td>100.00</td>')
