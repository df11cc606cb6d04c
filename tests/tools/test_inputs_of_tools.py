"""Drawn inputs as annotation and depth tools write them, by commands; see their README."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from helpers.commands import light_environment
from helpers.drawn import iou, write_images
from PIL import Image

from cuts3d_mm.labels.record import decode_mask
from cuts3d_mm.labels.store import read_store
from cuts3d_mm.labels.table import LabelTable

MASKCUT = ('generate', 'maskcut_color-texture')


@pytest.fixture(scope='session')
def cases():
    folder = Path(os.environ.get('CUTS3D_TEST_DATA') or 'none').parent / 'cases'
    if not folder.is_dir():
        pytest.skip('CUTS3D_TEST_DATA does not name a folder next to the drawn cases')
    return folder


@pytest.mark.parametrize(
    ('name', 'count', 'said'),
    [
        ('plain', 8, ''),
        ('1_flat_object', 8, '1 object without area, left out'),
        ('3_boxes_xyxy', 8, '8 objects whose box contradicts the mask'),
        ('4_float_ids', 8, ''),
        ('4_no_area', 8, ''),
        ('4_one_two_point_polygon', 7, '1 object without area, left out'),
        ('6_backslash', 8, ''),
    ],
)
def test_annotations_have_the_objects_that_they_must(cuts3d, cases, tmp_path, name, count, said):
    path, figures = cases / f'{name}.json', tmp_path / 'figures.json'
    code, out, err = cuts3d('describe', path)
    assert code == 0 and re.search(rf'instances +\| +{count} ', out) and said in err
    code, _, err = cuts3d('score', cases / 'plain.json', path, '--json', figures)
    scores = json.loads(figures.read_text())
    assert code == 0 and scores['segm']['AR100'] == 1 and (count < 8 or scores['bbox']['AP'] == 1)


def test_a_file_of_crowds_alone_is_refused_and_read_as_objects_where_asked_for(cuts3d, cases):
    path = cases / '2_all_crowd.json'
    code, _, err = cuts3d('describe', path)
    assert code == 2 and 'iscrowd in all 8' in err and '--crowd objects' in err
    code, out, err = cuts3d('describe', path, '--crowd', 'objects')
    assert code == 0 and re.search(r'instances +\| +8 ', out), err


@pytest.mark.parametrize('name', ['coco/annotations/instances_val2017.json', '6_backslash.json'])
def test_the_images_of_annotations_are_found(cuts3d, cases, tmp_path, name):
    code, out, err = cuts3d(*MASKCUT, cases / name, tmp_path / 'out', '--workers', 0)
    assert code == 0 and out.startswith('4 images: 8 instances, 0 failures'), err


def test_a_photo_that_was_annotated_upright_is_said_with_the_remedy(cuts3d, cases, tmp_path):
    truth, out = cases / '7_upright.json', tmp_path / 'out'
    cuts3d.done(*MASKCUT, truth, out, '--images', cases / 'phone', '--workers', 0)
    code, _, err = cuts3d('score', out, truth)
    assert code == 2 and 'EXIF' in err and 'mogrify -auto-orient' in err
    # The remedy is true:
    (tmp_path / 'turned').mkdir()
    with Image.open(cases / 'phone/a.jpg') as image:
        turned = image.transpose(Image.Transpose.ROTATE_270)  # orientation 6
        turned.save(tmp_path / 'turned/a.jpg', quality=95)
    folder = tmp_path / 'turned'
    assert cuts3d(*MASKCUT, truth, tmp_path / 'b', '--images', folder, '--workers', 0)[0] == 0
    cuts3d.done('score', tmp_path / 'b', truth, '--json', tmp_path / 'figures.json')
    assert json.loads((tmp_path / 'figures.json').read_text())['segm']['AR100'] >= 0.8


def test_depth_of_65535_gives_the_masks_of_the_depth_without_it(cuts3d, cases, tmp_path):
    masks = []
    for name in ('depth_plain', 'depth_top65535'):
        (tmp_path / 'images').mkdir(exist_ok=True)
        (tmp_path / 'images/0.png').write_bytes((cases / 'images/0.png').read_bytes())
        generate = ('generate', 'cuts3d_color-texture_file-depth', tmp_path / 'images')
        cuts3d.done(*generate, tmp_path / name, '--depth', cases / name, '--workers', 0)
        (record,) = read_store(tmp_path / name)
        masks.append([decode_mask(one, record.image_hw) for one in record.instances])
    best = [max(iou(one, other) for other in masks[1]) for one in masks[0]]
    assert len(masks[0]) == len(masks[1]) and np.min(best) >= 0.9


def test_a_folder_without_a_map_for_the_first_images_ends_at_once(cuts3d, tmp_path, rng):
    write_images(tmp_path / 'images', 3, rng)
    for path in (tmp_path / 'images').rglob('*.png'):
        depth = tmp_path / 'depth' / path.relative_to(tmp_path / 'images').parent
        depth.mkdir(parents=True, exist_ok=True)
        np.save(depth / f'{path.stem}_depth.npy', np.ones((24, 32)))
    generate = ('generate', 'cuts3d_color-texture_file-depth', tmp_path / 'images')
    code, _, err = cuts3d(*generate, tmp_path / 'out', '--depth', tmp_path / 'depth')
    assert code == 2 and 'none of the first 3 has one' in err and 'DIR/{}_depth.npy' in err
    assert not (tmp_path / 'out').exists()
    pattern = tmp_path / 'depth/{}_depth.npy'
    code, out, err = cuts3d(
        *generate, tmp_path / 'out', '--depth', pattern, '--workers', 0,
        '--cfg-options', 'model.input_hw=(96,128)',
    )  # fmt: skip
    assert code == 0 and '0 failures' in out, err


def test_a_folder_whose_name_is_not_utf8_holds_labels(cuts3d, tmp_path, rng):
    write_images(tmp_path / 'images', 2, rng)
    out = tmp_path / os.fsdecode(b'labels\xff')
    generate = (*MASKCUT, tmp_path / 'images', out, '--workers', 0)
    for _ in range(2):
        cuts3d.done(*generate, '--cfg-options', 'model.input_hw=(96,128)')
    assert len(list(read_store(out))) == len(LabelTable(out)) == 2
    cuts3d.done('export', out, tmp_path / os.fsdecode(b'\xff.json'))


@pytest.mark.slow
def test_a_command_whose_streams_are_closed_does_its_work(tmp_path, rng):
    write_images(tmp_path / 'images', 2, rng)
    words = [sys.executable, '-m', 'cuts3d_mm', *MASKCUT, 'images', 'out', '--workers', '0']
    command = f'{shlex.join(words)} --cfg-options "model.input_hw=(96,128)" 2>&- >&- <&-'
    done = subprocess.run(
        ['bash', '-c', command], cwd=tmp_path, env=light_environment(), check=False
    )
    assert done.returncode == 0
    assert len(list(read_store(tmp_path / 'out'))) == 2
