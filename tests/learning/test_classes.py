"""A few labels with classes, at the end of a run."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
from helpers.training import run_learn, write_inputs
from msgspec.structs import replace

from cuts3d_mm import load_detector
from cuts3d_mm.configs import load_config
from cuts3d_mm.images.listing import ImageList
from cuts3d_mm.learning import classes
from cuts3d_mm.learning.classes import (
    divide_labels,
    with_classes_of,
)
from cuts3d_mm.learning.plan import IMAGENET_IMAGES, Plan, Request, Settings
from cuts3d_mm.learning.planning import Planned, usual_schedule
from cuts3d_mm.learning.training import read_log

TINY = 'cuts3d_tiny-cascade-mask-rcnn_r18_scenes-self-training'
CUTLER = 'cuts3d_cascade-mask-rcnn_r50_fpn_8xb2-amp-400k_rounds'
NAMES = [f'{number:03d}.png' for number in range(8)]
CLASSES = [{'id': 3, 'name': 'ball'}, {'id': 7, 'name': 'disc'}]


def plan_of(detector):
    """The plan for as many images as ImageNet has, on the CPU."""
    settings = Settings('images', 'generator', None, detector, 'none', None, True, 0, 0)
    return Plan(settings, IMAGENET_IMAGES, usual_schedule(settings, IMAGENET_IMAGES))


@pytest.mark.parametrize(
    ('num_images', 'steps'), [(1_183, 3_600), (5_914, 4_500), (11_829, 9_000), (118_287, 90_000)]
)
def test_steps_are_those_of_cutler_for_shares_of_coco(num_images, steps):
    plan = plan_of(CUTLER)
    assert classes.fine_tuning_steps(plan, num_images) == pytest.approx(8 * steps, rel=1e-3)
    initial = plan.schedule.initial_steps // 10
    short = replace(plan, schedule=plan.schedule.with_initial_steps(initial))
    assert classes.fine_tuning_steps(short, num_images) == pytest.approx(0.8 * steps, rel=1e-3)


def test_classes_are_matched_by_name():
    one = {'images': [], 'annotations': [{'id': 1, 'category_id': 5}, {'id': 2, 'category_id': 6}]}
    one['categories'] = [{'id': 5, 'name': 'disc'}, {'id': 6, 'name': 'cube'}]
    assert with_classes_of(one, {'categories': CLASSES})['annotations'] == [
        {'id': 1, 'category_id': 7}
    ]


def write_truth(path, with_objects, images=NAMES):
    """Annotations with a rectangle in some of the images."""
    rectangle = {'category_id': 3, 'bbox': [3, 4, 10, 8], 'area': 80, 'iscrowd': 0}
    rectangle['segmentation'] = [[3, 4, 13, 4, 13, 12, 3, 12]]
    annotations = [
        {'id': number + 1, 'image_id': number, **rectangle}
        for number, name in enumerate(images)
        if name in with_objects
    ]
    size = {'height': 60, 'width': 90}
    entries = [{'id': number, 'file_name': name, **size} for number, name in enumerate(images)]
    content = {'images': entries, 'annotations': annotations, 'categories': CLASSES}
    path.write_text(json.dumps(content))
    return path


def names_in(truth):
    return {image['file_name'] for image in truth['images']}


@pytest.mark.parametrize('with_objects', [NAMES[:2], NAMES[3:5], NAMES[6:]])
def test_both_sides_of_a_division_have_objects(tmp_path, with_objects):
    labels, test = divide_labels(write_truth(tmp_path / 'few.json', with_objects), None, NAMES)
    assert len(labels['annotations']) == len(test['annotations']) == 1
    assert names_in(labels) | names_in(test) == set(with_objects)


def test_one_labelled_image_is_refused_unless_others_are_annotated(tmp_path):
    few = write_truth(tmp_path / 'few.json', NAMES[:1])
    with pytest.raises(ValueError, match=r'in two images of IMAGES at least.* in 1; label'):
        divide_labels(few, None, NAMES)
    few = write_truth(tmp_path / 'few.json', NAMES[:1], NAMES[:1])
    truth = write_truth(tmp_path / 'truth.json', NAMES[:2])
    labels, test = divide_labels(few, truth, NAMES)
    assert names_in(labels) == {NAMES[0]} and names_in(test) == set(NAMES[1:])


def test_a_score_without_an_object_to_find_is_no_number():
    log = [{'coco/segm_mAP': 0.5, 'coco/segm_mAP_50': -1.0, 'coco/bbox_mAP_50': 0.0}]
    assert list(classes.last_scores(log).values()) == ['50.00', '-', '0.00']


@pytest.fixture
def trained(tmp_path, monkeypatch):
    """Fine-tunings that write their config alone: a function that gives its path."""
    works = []
    monkeypatch.setattr(classes, 'train', lambda config, *_: works.append(config))
    monkeypatch.setattr(classes, 'release', lambda *_: None)

    def learn(weights=b'first', truth=NAMES[2:]):
        (tmp_path / 'weights.pth').write_bytes(weights)
        few = write_truth(tmp_path / 'few.json', NAMES[:2], NAMES[:2])
        annotations = write_truth(tmp_path / 'truth.json', truth)
        request = Request(tmp_path, tmp_path, annotations=annotations)
        images = ImageList(tmp_path, tuple(NAMES))
        planned = Planned(request, plan_of(TINY), None, images, held_out=())
        classes.learn_classes(planned, few, tmp_path / 'weights.pth', print)
        return works[-1]

    return learn


def test_other_weights_or_annotations_are_fine_tuned_elsewhere(trained):
    first, again = trained(), trained()
    assert again == first
    assert len({first, trained(b'after more rounds'), trained(truth=NAMES[3:])}) == 3


@pytest.mark.parametrize(('num_images', 'rate'), [(2, 0.04), (60_000, 0.02)])
def test_the_recipe_is_that_of_the_shipped_config(monkeypatch, capsys, num_images, rate):
    monkeypatch.setenv('PERCENT', '1')
    config = classes.class_config(
        plan_of(CUTLER),
        {'images': [None] * num_images, 'categories': CLASSES},
        (Path('train.json'), Path('test.json')),
        Path('images'),
        Path('weights.pth'),
    )
    assert config.optim_wrapper.optimizer.lr == pytest.approx(rate / 8)  # 2 images of a step
    assert config.model.test_cfg.rcnn.score_thr == 0.05
    assert config.model.roi_head.mask_head.num_classes == 2
    drops = config.param_scheduler[1]['milestones']
    assert drops == pytest.approx([config.train_cfg.max_iters * n / 9 for n in (6, 8)], abs=1)
    assert os.environ['PERCENT'] == '1' and 'PERCENT' not in ''.join(capsys.readouterr())


def name_groups(root, store, cuts3d):
    """What a generator has found, as labels whose classes are two groups with names."""
    options = '--features', root / 'generator.py', '--groups', 2
    assert cuts3d('group', store, root / 'images', root / 'groups', *options)[0] == 0
    operations = [{'name': number, 'as': one['name']} for number, one in enumerate(CLASSES)]
    names = root / 'groups/names.json'
    names.write_text(json.dumps({'operations': operations}))
    assert cuts3d('name', store, names, root / 'named')[0] == 0
    assert cuts3d('export', root / 'named', root / 'named.json')[0] == 0
    return root / 'named.json'


@pytest.mark.slow
def test_groups_with_names_become_the_classes_of_a_detector(tmp_path, monkeypatch, cuts3d):
    monkeypatch.setattr(classes, 'fine_tuning_steps', lambda *arguments: 2)
    root, out = write_inputs(tmp_path), tmp_path / 'out'
    run_learn(root, out, rounds=0)
    truth = name_groups(root, out / 'cut', cuts3d)
    content = json.loads(truth.read_text())
    content['images'] = [one for one in content['images'] if one['file_name'] < '003.png']
    kept = [one['id'] for one in content['images']]
    content['annotations'] = [one for one in content['annotations'] if one['image_id'] in kept]
    flat = {'bbox': [50.5, 20.25, 2.0, 0.0], 'area': 0.0, 'segmentation': [[50.5, 20.25] * 3]}
    content['annotations'].append({**content['annotations'][0], 'id': 99, **flat})
    few = tmp_path / 'few.json'
    few.write_text(json.dumps(content))
    run_learn(root, out, labels=few, annotations=truth)
    (log,) = map(read_log, out.glob('classes_*/training'))
    assert all(np.isfinite(line['loss']) for line in log if 'loss' in line)
    page = (out / 'report.html').read_text()
    with_objects = {one['image_id'] for one in json.loads(few.read_text())['annotations']}
    assert 'on 3 images whose labels are not trained on' in page
    assert f'after 2 steps on {len(with_objects)} labelled' in page
    card = (out / 'release_classes' / 'README.md').read_text()
    assert '2 classes' in card and 'SeededCocoDataset' in card
    detector = load_detector(str(out / 'release_classes'), device='cpu')
    assert tuple(detector.classes) == ('ball', 'disc')
    (config,) = out.glob('classes_*/training.py')
    begin = out / 'training/round_1/begin.pth'
    assert load_config(str(config), []).load_from == str(begin)


@pytest.mark.parametrize(
    ('changes', 'message'),
    [
        ({'categories': []}, r'few\.json: categories must hold the id and name of every class'),
        ({'categories': [{'id': 3}]}, r'COCO JSON with classes: categories\[0\].*must have'),
        ({'categories': CLASSES[1:]}, 'that is annotated, got no category 3'),
        ({'categories': None}, 'categories must be list, got null'),
    ],
)
def test_labels_without_classes_are_refused(tmp_path, changes, message):
    path = write_truth(tmp_path / 'few.json', NAMES[:2])
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))
    with pytest.raises(ValueError, match=message):
        divide_labels(path, None, NAMES)


def test_labels_of_other_images_are_refused(tmp_path):
    few = write_truth(tmp_path / 'few.json', NAMES[:2])
    with pytest.raises(ValueError, match='7 of 8 are not there, such as 001.png.*1 annotations'):
        divide_labels(few, None, NAMES[:1])
