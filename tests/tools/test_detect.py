from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import cv2
import numpy as np
import pytest
from helpers.drawn import annotations_of, write_images
from PIL import Image
from pycocotools.coco import COCO

from cuts3d_mm.labels.store import read_store


def write_video(path, count, image_hw=(60, 88)):
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*'mp4v'), 12.0, image_hw[::-1])
    for index in range(count):
        frame = np.full((*image_hw, 3), 40, np.uint8)
        cv2.circle(frame, (20 + 3 * index, 30), 14, (30, 200, 90), -1)
        writer.write(frame)
    writer.release()


@pytest.mark.slow
def test_photos_and_a_video_become_pictures_masks_and_coco(cuts3d, detector, tmp_path, rng):
    names = write_images(tmp_path / 'in', 4, rng)
    write_video(tmp_path / 'clip.mp4', 5)
    arguments = ('--out', tmp_path / 'out', '--score-thr', '0', '--batch-size', 2)
    code, out, err = cuts3d(
        'detect', tmp_path / 'in', tmp_path / 'clip.mp4', *detector, *arguments,
        '--save', 'pictures', 'masks', 'coco',
    )  # fmt: skip
    assert code == 0 and out.startswith('9 images: '), err
    coco = COCO(str(tmp_path / 'out/detections.json'))
    frames = [f'clip.mp4#{number:06d}' for number in range(5)]
    assert [image['file_name'] for image in coco.dataset['images']] == [*names, *frames]
    assert coco.anns and all(coco.annToMask(one).shape == (60, 88) for one in coco.anns.values())
    for name in names:
        assert Image.open(tmp_path / 'out/pictures' / name).size == (88, 60)
        assert np.asarray(Image.open(tmp_path / 'out/masks' / f'{name}.png')).max() >= 1
    assert len(list((tmp_path / 'out/masks/clip.mp4').iterdir())) == 5
    video = cv2.VideoCapture(str(tmp_path / 'out/pictures/clip.mp4'))
    assert video.get(cv2.CAP_PROP_FRAME_COUNT) == 5 and video.get(cv2.CAP_PROP_FPS) == 12


def test_objects_of_a_video_are_followed(cuts3d, detector, tmp_path):
    write_video(tmp_path / 'clip.mp4', 3)
    arguments = ('--out', tmp_path / 'out', '--score-thr', '0', '--track')
    cuts3d.done('detect', tmp_path / 'clip.mp4', *detector, *arguments)
    found = json.loads((tmp_path / 'out/detections.json').read_text())['annotations']
    frames = [[one['track_id'] for one in found if one['image_id'] == i] for i in (1, 2, 3)]
    assert all(len(set(numbers)) == len(numbers) for numbers in frames)
    assert set(frames[0]) & set(frames[1]) & set(frames[2])


def test_results_have_the_image_ids_of_the_coco_json_and_are_scored(
    cuts3d, detector, tmp_path, rng
):
    names = write_images(tmp_path / 'in', 3, rng)
    truth = annotations_of(names, (60, 88))
    for one in (*truth['images'], *truth['annotations']):
        key = 'image_id' if 'image_id' in one else 'id'
        one[key] = 40 - one[key]
    (tmp_path / 'in/truth.json').write_text(json.dumps(truth))
    arguments = ('--out', tmp_path / 'out', '--save', 'results', '--score-thr', '0')
    cuts3d.done('detect', tmp_path / 'in/truth.json', *detector, *arguments)
    results = tmp_path / 'out/results.json'
    assert {one['image_id'] for one in json.loads(results.read_text())} == {38, 39, 40}
    scores = []
    for labels in (results, tmp_path / 'out/labels'):
        cuts3d.done(
            'score', labels, tmp_path / 'in/truth.json', '--json', tmp_path / 'scores.json'
        )
        scores.append(json.loads((tmp_path / 'scores.json').read_text()))
    assert scores[0] == scores[1]
    kept = ('image_id', 'category_id', 'segmentation')
    true = [{key: one[key] for key in kept} | {'score': 1} for one in truth['annotations']]
    results.write_text(json.dumps(true))
    cuts3d.done('score', results, tmp_path / 'in/truth.json', '--json', tmp_path / 'scores.json')
    assert json.loads((tmp_path / 'scores.json').read_text())['segm']['AP'] == 1
    both = (tmp_path / 'in/truth.json', tmp_path / 'in/a/000.png')
    code, _, err = cuts3d('detect', *both, *detector, *arguments)
    assert code == 2 and 'must have one COCO JSON as its only INPUT' in err


def test_where_nothing_is_found_the_best_score_is_said_with_the_remedy(
    cuts3d, detector, tmp_path, rng
):
    write_images(tmp_path / 'in', 2, rng)
    arguments = (tmp_path / 'in', *detector, '--out', tmp_path / 'out')
    code, out, err = cuts3d('detect', *arguments, '--score-thr', 1)
    assert code == 0 and out.startswith('2 images: 0 instances')
    found = re.search(
        r'no instance in 2 images: the best score is (0\.\d+), below --score-thr 1; '
        r'--score-thr (\S+) shows',
        err,
    )
    assert found and 0 < float(found[2]) <= float(found[1]) / 2 + 0.005
    code, out, err = cuts3d('detect', *arguments, '--score-thr', found[2])
    assert not out.startswith('2 images: 0 ') and 'no instance' not in err


def test_large_photos_are_detected_in_tiles(cuts3d, detector, tmp_path, rng, monkeypatch):
    pytest.importorskip('supervision')
    names = write_images(tmp_path / 'in', 1, rng, (200, 288))
    arguments = ('--out', tmp_path / 'out', '--save', 'coco', 'masks', 'pictures')
    tiles = ('--tiles', 96, '--overlap', '0.25', '--batch-size', 3, '--score-thr', '0')
    code, out, err = cuts3d('detect', tmp_path / 'in', *detector, *arguments, *tiles)
    assert code == 0 and out.startswith('1 images: '), err
    (record,) = read_store(tmp_path / 'out/labels')
    assert record.image_hw == (200, 288) and record.instances
    boxes = np.array([one.box_xywh for one in record.instances])
    assert boxes[:, 2:].max() <= 96 and (boxes[:, :2] + boxes[:, 2:]).max(axis=0).min() > 96
    assert Image.open(tmp_path / 'out/pictures' / names[0]).size == (288, 200)
    for wrong, message in (
        (('--tiles', 0), '--tiles'),
        (('--tiles', 64, '--overlap', 1), 'overlap in [0, 1), got 64, 1.0'),
        (('--tiles', 64, '--track'), '--track follows objects in whole frames'),
    ):
        code, _, err = cuts3d('detect', tmp_path / 'in', *detector, *wrong)
        assert code == 2 and message in err
    monkeypatch.setattr('cuts3d_mm.inference.tiles.find_spec', lambda name: None)
    code, _, err = cuts3d('detect', tmp_path / 'in', *detector, '--tiles', 64)
    assert code == 2 and 'pip install cuts3d_mm[tiles]' in err and err.count('\n') == 1


def test_the_folder_of_the_photos_of_a_coco_json_can_be_given(cuts3d, detector, tmp_path, rng):
    names = write_images(tmp_path / 'in', 1, rng)
    (tmp_path / 'alone').mkdir()
    (tmp_path / 'alone/gt.json').write_text(json.dumps(annotations_of(names, (60, 88))))
    command = ('detect', tmp_path / 'alone/gt.json', *detector, '--out', tmp_path / 'out')
    code, _, err = cuts3d(*command)
    assert code == 2 and err.endswith('; --images DIR gives their folder\n')
    code, out, err = cuts3d(*command, '--images', tmp_path / 'in')
    assert code == 0 and out.startswith('1 images: '), err


def test_photos_cannot_be_followed(cuts3d, detector, tmp_path, rng):
    write_images(tmp_path / 'in', 2, rng)
    code, _, err = cuts3d(
        'detect', tmp_path / 'in', *detector, '--track', '--out', tmp_path / 'out'
    )
    assert code == 2 and err.startswith('cuts3d detect: --track must have videos or webcams')
    assert err.count('\n') == 1 and not (tmp_path / 'out').exists()


def test_unreadable_photos_are_recorded_in_their_place(cuts3d, detector, tmp_path, rng):
    names = write_images(tmp_path / 'in', 3, rng)
    (tmp_path / 'in' / names[0]).write_bytes(b'no image')
    (tmp_path / 'in' / names[2]).write_bytes(b'')
    code, out, err = cuts3d(
        'detect', tmp_path / 'in', *detector, '--out', tmp_path / 'out', '--batch-size', 2
    )
    assert code == 3 and '3 images' in out and '2 failures' in out and 'failures.jsonl' in err
    records = list(read_store(tmp_path / 'out/labels'))
    assert [record.name for record in records] == names
    assert [record.failure is None for record in records] == [False, True, False]
    failures = (tmp_path / 'out/labels/failures.jsonl').read_text().splitlines()
    assert [json.loads(line)['path'] for line in failures] == [names[0], names[2]]


def test_photos_are_fetched_from_urls(cuts3d, detector, tmp_path, rng):
    names = write_images(tmp_path / 'in', 1, rng)
    handler = partial(SimpleHTTPRequestHandler, directory=str(tmp_path / 'in'))
    handler.log_message = None
    server = ThreadingHTTPServer(('127.0.0.1', 0), handler)
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    base = f'http://127.0.0.1:{server.server_port}'
    try:
        code, out, _ = cuts3d(
            'detect', f'{base}/{names[0]}', f'{base}/none.jpg', *detector,
            '--out', tmp_path / 'out',
        )  # fmt: skip
    finally:
        server.shutdown()
    assert code == 3 and '2 images' in out and '1 failures' in out
    last = list(read_store(tmp_path / 'out/labels'))[1]
    assert last.name == 'none.jpg' and '404' in last.failure


def test_an_earlier_result_is_replaced_and_said(cuts3d, detector, tmp_path, rng, caplog):
    write_images(tmp_path / 'in', 2, rng)
    for path, is_second in ((tmp_path / 'in', False), (tmp_path / 'in/a/000.png', True)):
        cuts3d.done('detect', path, *detector, '--out', tmp_path / 'out')
        assert ('out holds an earlier detection, which is replaced' in caplog.text) == is_second
    assert [record.name for record in read_store(tmp_path / 'out/labels')] == ['000.png']


@pytest.mark.parametrize(
    ('inputs', 'message'),
    [
        (['gone.jpg'], 'found nothing at gone.jpg'),
        (['no.mp4'], 'no.mp4 cannot be read as a video'),
        (['webcam:x'], 'must be webcam:NUMBER'),
    ],
)
def test_inputs_that_are_nothing_are_one_line(
    cuts3d, detector, tmp_path, monkeypatch, inputs, message
):
    monkeypatch.chdir(tmp_path)
    Path('no.mp4').touch()
    code, _, err = cuts3d('detect', *inputs, *detector, '--out', tmp_path / 'out')
    assert code == 2 and message in err and not (tmp_path / 'out').exists()


@pytest.mark.slow
def test_it_prints_its_result_and_nothing_of_other_packages(detector, tmp_path, rng):
    write_images(tmp_path / 'in', 2, rng)
    command = [sys.executable, '-m', 'cuts3d_mm', 'detect', tmp_path / 'in', *detector]
    command += ['--out', tmp_path / 'out']
    environment = {**os.environ, 'PYTHONPATH': str(Path(__file__).parents[2])}
    run = subprocess.run(
        list(map(str, command)), env=environment, capture_output=True, text=True, check=True
    )
    (line,) = run.stdout.splitlines()
    assert line.startswith('2 images: ')
    # On a slow machine it says in between how far it is.
    assert [line for line in run.stderr.splitlines() if '/2 images' not in line] == []
