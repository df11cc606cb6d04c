"""What a plan says before anything is written."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from helpers.training import INITIAL, ROUND, write_inputs, write_photos
from PIL import Image

from cuts3d_mm.images.listing import list_images
from cuts3d_mm.learning.loop import learn
from cuts3d_mm.learning.plan import Folders, Request, write_plan
from cuts3d_mm.learning.planning import describe_plan, labeller_of, look_at, plan_run
from cuts3d_mm.learning.training import train_command, write_training_config


@pytest.fixture(scope='module')
def request_of(tmp_path_factory):
    root = write_inputs(tmp_path_factory.mktemp('inputs'))

    def make(**changes):
        detector = str(root / 'detector.py')
        return Request(root / 'images', root / 'out', detector=detector, offline=True, **changes)

    return make


def test_a_schedule_for_as_many_images_as_the_config_says_is_that_of_the_config(request_of):
    schedule = plan_run(request_of()).plan.schedule
    assert (schedule.initial_steps, schedule.round_steps) == (INITIAL, (ROUND, ROUND))
    assert schedule.num_images == 5  # a sixth is held out


def test_a_plan_with_hand_made_features_warns_that_they_fail_on_photos(request_of):
    def warnings(request):
        return [line for line in describe_plan(plan_run(request)) if 'hand-made' in line]

    (warning,) = warnings(request_of())
    assert 'to 0.1 to 16 %, which is hardly usable: for photos leave out --offline' in warning
    assert not warnings(replace(request_of(config='cuts3d_dino-vitb8_zoedepth'), offline=False))


def test_labels_of_equal_scores_are_all_trained_on_and_the_plan_says_so(request_of, tmp_path):
    def select_line(**changes):
        planned = plan_run(replace(request_of(), **changes))
        return next(line for line in describe_plan(planned) if line.startswith('select: '))

    equal = 'select: all labels are trained on (in 2D their scores are equal)'
    assert select_line() == select_line(select='30%') == equal
    in_3d = {'config': 'cuts3d_color-texture_file-depth', 'depth': tmp_path}
    assert 'the 50 % of the labels with the best scores' in select_line(**in_3d)


def test_steps_set_the_length_and_stay_as_they_are(request_of, tmp_path):
    request = replace(request_of(steps=12), out=tmp_path)
    schedule = keep(request).plan.schedule
    assert (schedule.initial_steps, schedule.round_steps) == (12, (8, 8))
    for steps in (None, 12):
        assert plan_run(replace(request, steps=steps)).plan.schedule == schedule
    with pytest.raises(ValueError, match='--steps must stay 12, .* got 6; choose another OUT'):
        plan_run(replace(request, steps=6))


def test_rounds_can_be_added_to_a_plan_without_a_round_but_not_left_out(request_of, tmp_path):
    request = replace(request_of(steps=12, rounds=0), out=tmp_path)
    keep(request)
    assert plan_run(replace(request, rounds=3)).plan.schedule.round_steps == (8, 8, 8)
    keep(replace(request, rounds=1))
    with pytest.raises(ValueError, match='--rounds must be at least the 1 of the plan'):
        plan_run(request)


def test_other_images_are_refused_with_the_way_to_learn_from_them(tmp_path):
    root = write_inputs(tmp_path)
    detector = str(root / 'detector.py')
    request = Request(root / 'images', root / 'out', detector=detector, offline=True)
    keep(request)
    write_photos(root / 'images', 1, first=6)
    with pytest.raises(ValueError, match='differing: 6 -> 7 images; choose another OUT for other'):
        plan_run(request)
    (root / 'out/release').mkdir()
    with pytest.raises(ValueError, match='another OUT .* --load-from .*out/release to begin'):
        plan_run(request)


def test_the_plan_of_an_earlier_version_is_refused_with_the_remedy(request_of, tmp_path):
    (tmp_path / 'plan.json').write_text(json.dumps({'version': 1, 'passes': []}))
    (tmp_path / 'release').mkdir()
    reason = 'version must be 3, got 1.; choose another OUT, and --load-from .*release'
    with pytest.raises(ValueError, match=reason):
        plan_run(replace(request_of(), out=tmp_path))


def keep(request):
    planned = plan_run(request)
    request.out.mkdir(exist_ok=True)
    write_plan(request.out / 'plan.json', planned.plan)
    return planned


def test_a_config_is_found_from_every_folder(request_of, monkeypatch):
    request = request_of()
    folder = Path(request.detector).parent
    monkeypatch.chdir(folder)
    settings = plan_run(replace(request, detector='detector.py')).plan.settings
    assert settings.detector == str(folder / 'detector.py')


def test_weights_that_are_not_there_are_refused_before_anything_is_done(request_of):
    with pytest.raises(ValueError, match='--load-from must be a release folder.*found none at'):
        plan_run(request_of(load_from='/nowhere/weights.pth'))


def test_the_same_request_is_recognized_however_it_is_spelled(request_of, tmp_path):
    request = replace(request_of(), out=tmp_path, config='cuts3d_color-texture_file-depth')
    first = keep(request)
    images = request.images / '..' / request.images.name
    again = plan_run(replace(request, images=images, config=None, detector=None))
    assert again.plan == again.earlier == first.plan


@pytest.mark.parametrize(
    ('old', 'new'),
    [
        (f'"initial_steps": {INITIAL}', '"initial_steps": -5'),
        (f'"initial_steps": {INITIAL}', '"initial_steps": "x"'),
        ('{', '['),
    ],
)
def test_a_damaged_plan_is_made_again(request_of, tmp_path, old, new, caplog):
    request = replace(request_of(), out=tmp_path)
    first = keep(request)
    path = tmp_path / 'plan.json'
    path.write_text(path.read_text().replace(old, new, 1))
    assert plan_run(request).plan == first.plan
    assert 'plan.json is damaged; made again' in caplog.text


@pytest.mark.parametrize('rounds', [0, 1])
def test_a_plan_that_is_gone_is_made_again_from_the_training(request_of, tmp_path, rounds):
    request = replace(request_of(seed=3, steps=7, rounds=rounds), out=tmp_path)
    first, folders = keep(request), Folders(tmp_path)
    folders.held_out.write_text('{"annotations": []}')
    write_training_config(first.plan, folders, first.root)
    folders.plan.unlink()
    bare = replace(request, seed=None, steps=None, rounds=None)
    assert plan_run(bare).plan == first.plan
    with pytest.raises(ValueError, match='--detector must be the config that .*training.py was'):
        plan_run(replace(bare, detector=None))
    with pytest.raises(ValueError, match='differing: --seed: 3 -> 4'):
        plan_run(replace(bare, seed=4))


def test_what_larger_depth_is_can_be_said(request_of, tmp_path):
    request = request_of(config='cuts3d_color-texture_file-depth', larger_is='near')
    with pytest.raises(ValueError, match='--larger-is says how to read the maps of --depth'):
        plan_run(request)
    planned = plan_run(replace(request, depth=tmp_path))
    assert labeller_of(planned.plan.settings).config['depth'] == {
        'type': 'cuts3d_mm.DepthFromFile', 'root': str(tmp_path), 'larger_is': 'near',
    }  # fmt: skip
    assert any(line.endswith('larger is near') for line in describe_plan(planned))


def test_a_folder_in_that_of_the_images_is_refused(request_of):
    images = request_of().images
    for out in (images, images / 'out'):
        with pytest.raises(ValueError, match='OUT must not lie in the folder of IMAGES'):
            plan_run(replace(request_of(), out=out))


@pytest.mark.parametrize('argument', ['annotations', 'labels'])
def test_annotations_are_read_before_anything_is_done(request_of, tmp_path, argument):
    path = tmp_path / 'truth.json'
    path.write_text(json.dumps({'a': 1}))
    with pytest.raises(ValueError, match=r'truth\.json'):
        plan_run(request_of(**{argument: path}))


def test_the_plan_says_how_it_is_fine_tuned_and_refuses_labels_of_one_image(request_of, tmp_path):
    path = tmp_path / 'few.json'
    image = {'id': 1, 'file_name': '000.png', 'height': 60, 'width': 90}
    one = {'id': 1, 'image_id': 1, 'category_id': 3, 'bbox': [3, 4, 10, 8], 'area': 80}
    one |= {'iscrowd': 0, 'segmentation': [[3, 4, 13, 4, 13, 12, 3, 12]]}
    classes = [{'id': 3, 'name': 'ball'}]
    path.write_text(json.dumps({'images': [image], 'annotations': [one], 'categories': classes}))
    with pytest.raises(ValueError, match='objects in two images of IMAGES at least'):
        plan_run(request_of(labels=path))
    other = [{**image, 'id': 2, 'file_name': '001.png'}, {**one, 'id': 2, 'image_id': 2}]
    content = {'images': [image, other[0]], 'annotations': [one, other[1]], 'categories': classes}
    path.write_text(json.dumps(content))
    plan = '\n'.join(describe_plan(plan_run(request_of(labels=path))))
    assert re.search(r'then fine-tune: \d+ steps of 2 images on 1 images with .* ball', plan)


def test_a_dry_run_says_what_would_be_done_and_writes_nothing(request_of):
    said = []
    learn(request_of(), said.append, is_dry=True)
    text = '\n'.join(said)
    assert '6 images, 90 x 60' in text and 'in 2D, since no --depth is given' in text
    assert f'{INITIAL} steps of 2 images, then 2 rounds of {ROUND}, {ROUND}' in text
    assert not request_of().out.exists()


def test_a_dry_run_without_offline_warns_of_a_cpu_and_of_weights_out_of_reach(
    request_of, tmp_path, monkeypatch
):
    request, said = replace(request_of(gpus=0), offline=False, detector=None), []
    monkeypatch.setattr('huggingface_hub.constants.HF_HUB_CACHE', str(tmp_path))
    monkeypatch.setattr('torch.hub.get_dir', lambda: str(tmp_path))
    monkeypatch.setattr('cuts3d_mm.learning.loop.hub_answers', lambda: False)
    learn(request, said.append, is_dry=True)
    cpu, missing = (line for line in said if line.startswith('warning: '))
    assert 'on a CPU a step of Cascade Mask R-CNN' in cpu and '--offline' in cpu
    assert 'dino_resnet50_pretrain.pth, hf://Intel/zoedepth-nyu-kitti/config.json' in missing
    assert 'does not answer' in missing and 'add --offline' in missing
    assert not request.out.exists()


def test_gpus_that_are_not_there_are_refused(request_of):
    with pytest.raises(ValueError, match=r'--gpus must be 0 to \d+, the GPUs of this machine'):
        plan_run(request_of(gpus=99))


def test_several_gpus_train_by_torchrun(tmp_path):
    command = train_command(tmp_path / 'training.py', tmp_path / 'work', gpus=2, resumes=True)
    assert command[:5] == [
        *('torch.distributed.run', '--standalone', '--nproc_per_node=2', '-m', 'cuts3d_mm')
    ]
    assert command[-3:] == ['--resume', '--launcher', 'pytorch']


def test_sizes_and_unreadable_files_are_counted(tmp_path):
    for name, image_hw in (('a', (20, 30)), ('b', (40, 30)), ('c', (50, 60))):
        Image.fromarray(np.zeros((*image_hw, 3), np.uint8)).save(tmp_path / f'{name}.png')
    (tmp_path / 'broken.jpg').write_bytes(b'no image')
    assert look_at(list_images(tmp_path)) == [
        '4 images, 30 x 20 to 60 x 50 pixels, 30 x 40 in the middle',
        '1 cannot be read: broken.jpg',
    ]


def test_a_folder_without_a_readable_image_is_refused(tmp_path):
    (tmp_path / 'broken.jpg').write_bytes(b'no image')
    with pytest.raises(ValueError, match='must hold an image that can be read'):
        look_at(list_images(tmp_path))


def test_too_little_memory_is_said_before_anything_is_written(tmp_path, monkeypatch):
    monkeypatch.setattr('cuts3d_mm.learning.planning.memory_limit', lambda: 700 * 2**20)
    root = write_inputs(tmp_path)
    with pytest.raises(ValueError, match=r'1\.5 GiB of memory .* job is 0\.7 GiB'):
        plan_run(Request(root / 'images', root / 'out', offline=True))
    assert not (root / 'out').exists()
