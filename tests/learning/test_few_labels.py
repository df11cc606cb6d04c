"""A few labels with classes, at the end of a run."""

from __future__ import annotations

import json

import pytest
from learning_runs import run, write_inputs

from cuts3d_mm.configs import load_config
from cuts3d_mm.labels.coco import write_coco
from cuts3d_mm.labels.store import read_store
from cuts3d_mm.learning import class_config
from cuts3d_mm.learning.class_labels import read_class_labels, with_classes_of
from cuts3d_mm.learning.detector_config import load_detector_config

CUTLER = 'cuts3d_cascade-mask-rcnn_r50_fpn_8xb2-amp-400k_rounds'
CLASSES = [{'id': 3, 'name': 'ball'}, {'id': 7, 'name': 'disc'}]


@pytest.mark.parametrize(
    ('num_images', 'steps'), [(1_183, 3_600), (5_914, 4_500), (11_829, 9_000), (118_287, 90_000)]
)
def test_steps_are_those_of_cutler_for_shares_of_coco(num_images, steps):
    config = load_detector_config(CUTLER)
    assert class_config.fine_tuning_steps(config, num_images, 16) == pytest.approx(steps, rel=1e-3)


def test_classes_are_matched_by_name():
    one = {'images': [], 'annotations': [{'id': 1, 'category_id': 5}, {'id': 2, 'category_id': 6}]}
    one['categories'] = [{'id': 5, 'name': 'disc'}, {'id': 6, 'name': 'cube'}]
    assert with_classes_of(one, {'categories': CLASSES})['annotations'] == [
        {'id': 1, 'category_id': 7}
    ]


def write_labels(path, store, names=None, classes=CLASSES):
    """What a generator has found, as labels of two classes by turns."""
    records = [record for record in read_store(store) if names is None or record.name in names]
    write_coco(path, lambda: records)
    content = json.loads(path.read_text())
    for one in content['annotations']:
        one['category_id'] = CLASSES[one['id'] % 2]['id']
    path.write_text(json.dumps({**content, 'categories': classes}))
    return path


@pytest.mark.slow
def test_the_detector_is_fine_tuned_and_compared_with_a_start_from_other_weights(
    tmp_path, monkeypatch
):
    monkeypatch.setattr(class_config, 'fine_tuning_steps', lambda *arguments: 2)
    root, out = write_inputs(tmp_path), tmp_path / 'out'
    run(root, out, rounds=0)
    cut = out / 'pass_1' / 'cut'
    truth = write_labels(tmp_path / 'truth.json', cut)
    few = write_labels(tmp_path / 'few.json', cut, ('000.png', '001.png', '002.png'))
    run(root, out, labels=few, annotations=truth)
    page = (out / 'report.html').read_text()
    assert '<td>fine-tuned</td>' in page and '<td>without self-training</td>' in page
    assert 'on 3 images that are not trained on' in page and 'for 2 steps on 3 labelled' in page
    card = (out / 'release_classes' / 'README.md').read_text()
    assert '2 classes' in card and 'SeededCocoDataset' in card
    (folder,) = out.glob('classes_*')
    starts = [
        load_config(str(folder / f'{start}.py'), []).load_from
        for start in ('fine-tuned', 'without_self-training')
    ]
    assert starts == [str(out / 'pass_1/training/round_1/begin.pth'), None]


def test_labels_without_classes_or_of_other_images_are_refused(tmp_path):
    path = tmp_path / 'few.json'
    path.write_text(json.dumps({'images': [], 'annotations': []}))
    with pytest.raises(ValueError, match='categories must be a list of classes'):
        read_class_labels(path)
