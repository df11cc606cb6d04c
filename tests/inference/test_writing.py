from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import cv2
import numpy as np
import pytest
from helpers.drawn import disc
from helpers.moving import render_clip
from PIL import Image

from cuts3d_mm.algorithm.tracking import MAX_HIDDEN_FRAMES, MaskTracker
from cuts3d_mm.images.streams import Frame, open_sources
from cuts3d_mm.inference import writing
from cuts3d_mm.inference.results import MOST_INSTANCES, to_index_image, to_supervision
from cuts3d_mm.inference.writing import detect_all, number_objects, write_detections
from cuts3d_mm.labellers.detector import Detection
from cuts3d_mm.labels.coco import write_coco
from cuts3d_mm.scenes.rendering import MIN_VISIBLE_RATIO
from cuts3d_mm.visualization.overlays import draw_instances, instance_color
from cuts3d_mm.visualization.pictures import save_picture

HW = (64, 96)  # whole blocks of the video codec
FRAMES = 8


def detections(masks, scores):
    """Instances, the best first."""
    pairs = sorted(zip(masks, scores, strict=True), key=lambda pair: -pair[1])
    return tuple(Detection(mask, None, score, np.zeros(4, 'f4'), 0) for mask, score in pairs)


def ball(frame, row):
    return disc((row, 12 + 9 * frame), 9, HW)


class Detector:
    """Finds two balls in each frame, the best now one and now the other."""

    def __init__(self):
        self.num_frames = 0

    def predict_batch(self, images, at_once):
        assert len(images) <= at_once
        return [self.predict(image) for image in images]

    def predict(self, image):
        frame = self.num_frames % FRAMES
        self.num_frames += 1
        return detections([ball(frame, 16), ball(frame, 46)], [0.6, (0.5, 0.7)[frame % 2]])


@pytest.fixture
def clips(tmp_path):
    paths = [tmp_path / 'a.mp4', tmp_path / 'b.mp4']
    for path in paths:
        writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*'mp4v'), 12.0, HW[::-1])
        for _ in range(FRAMES):
            writer.write(np.full((*HW, 3), 90, np.uint8))
        writer.release()
    return open_sources(list(map(str, paths)))


def detect(clips, out, tracker):
    with write_detections(out, ('pictures', 'masks', 'coco')) as writer:
        detect_all(Detector(), clips, writer, 2, lambda counts: None, tracker)
    return json.loads((out / 'detections.json').read_text())


@pytest.mark.slow
def test_objects_keep_number_and_colour_in_all_that_is_written(clips, tmp_path):
    coco = detect(clips, tmp_path / 'out', MaskTracker())
    names = {image['id']: image['file_name'] for image in coco['images']}
    rows = {}
    for one in coco['annotations']:
        video = names[one['image_id']].partition('#')[0]
        rows.setdefault((video, one['track_id']), set()).add(round(one['bbox'][1]))
    # The numbers of another video are others.
    assert rows == {('a.mp4', 1): {7}, ('a.mp4', 2): {37}, ('b.mp4', 3): {7}, ('b.mp4', 4): {37}}
    video = cv2.VideoCapture(str(tmp_path / 'out/pictures/b.mp4'))
    for frame in range(FRAMES):
        numbers = np.asarray(Image.open(tmp_path / f'out/masks/b.mp4/{frame:06d}.png'))
        assert (numbers == 3 * ball(frame, 16) + 4 * ball(frame, 46)).all()
        drawn = video.read()[1][..., ::-1].astype(float)
        for number, row in ((3, 16), (4, 46)):
            tint = drawn[disc((row, 12 + 9 * frame), 5, HW)].mean(axis=0)
            assert np.argmin([np.ptp(tint - 0.35 * instance_color(i)) for i in range(4)]) == (
                number - 1
            )


def test_objects_that_are_not_followed_have_no_number(clips, tmp_path):
    coco = detect(clips[:1], tmp_path / 'out', None)
    assert len(coco['annotations']) == 2 * FRAMES
    assert not any('track_id' in one for one in coco['annotations'])


def one_image(writer):
    image = np.zeros((*HW, 3), np.uint8)
    writer.add(None, Frame('a.png', image), detections([ball(0, 16)], [0.5]))


def images_in(out):
    return [
        one['file_name'] for one in json.loads((out / 'detections.json').read_text())['images']
    ]


def test_an_interruption_while_the_files_are_finished_waits_for_them(tmp_path, monkeypatch):
    monkeypatch.setattr(writing, '_SAVE_EVERY_S', 1e9)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)

    def interrupted(*arguments, **options):
        signal.raise_signal(signal.SIGINT)
        write_coco(*arguments, **options)

    try:
        with pytest.raises(KeyboardInterrupt), write_detections(tmp_path, ('coco',)) as writer:
            one_image(writer)
            monkeypatch.setattr(writing, 'write_coco', interrupted)
    finally:
        signal.signal(signal.SIGINT, before)
    assert images_in(tmp_path) == ['a.png']


def test_the_first_save_which_imports_packages_does_not_delay_the_next(tmp_path, monkeypatch):
    clock = iter(range(0, 1000, 3))  # a save takes 3 s
    monkeypatch.setattr(writing.time, 'monotonic', lambda: next(clock))
    with write_detections(tmp_path, ('coco',)) as writer:
        one_image(writer)
        assert images_in(tmp_path) == ['a.png']


def test_a_frame_in_which_nothing_is_found_counts_for_the_tracker():
    frame = Frame('a', np.zeros((*HW, 3), np.uint8))
    tracker = MaskTracker()
    assert number_objects(frame, detections([ball(0, 16)], [0.5]), tracker) == (1,)
    for _ in range(MAX_HIDDEN_FRAMES + 2):
        assert number_objects(frame, (), tracker) == ()
    assert number_objects(frame, detections([ball(0, 16)], [0.5]), tracker) == (2,)


def test_supervision_takes_instances_and_numbers():
    supervision = pytest.importorskip('supervision')
    found = detections([ball(0, 16), ball(0, 46)], [0.5, 0.25])
    arguments = supervision.Detections(**to_supervision(found, HW, (4, 2)))
    assert arguments.tracker_id.tolist() == [4, 2] and arguments.mask.shape == (2, *HW)
    assert len(supervision.Detections(**to_supervision((), HW))) == 0


def test_a_number_that_fits_no_mask_image_is_refused():
    found = detections([ball(0, 16)], [0.5])
    with pytest.raises(ValueError, match='leave out --save masks'):
        to_index_image(found, HW, (MOST_INSTANCES + 1,))


def twice(pixels):
    return pixels.repeat(2, axis=0).repeat(2, axis=1)


@pytest.mark.slow
def test_objects_of_a_rendered_clip_keep_their_numbers(tmp_path):
    """With CUTS3D_DOCS=docs the picture of the docs is made."""
    tracker, rows, numbers = MaskTracker(), [], {}
    for frame, scene in enumerate(render_clip(np.random.default_rng(12), 48, (120, 160))):
        shown = np.flatnonzero(scene.masks.mean(axis=(1, 2)) >= MIN_VISIBLE_RATIO)
        found = tracker.update(scene.masks[shown])
        for index, number in zip(shown, found, strict=True):
            numbers.setdefault(index, set()).add(number)
        if frame % 8 == 4:
            image, masks = twice(scene.image), twice(scene.masks[shown].T).T
            rows.append(draw_instances(image, masks, numbers=found.tolist()))
    assert all(len(one) == 1 for one in numbers.values())
    assert len(set.union(*numbers.values())) == len(numbers) > 2
    target = Path(os.environ.get('CUTS3D_DOCS', tmp_path)) / 'tracking.jpg'
    save_picture(target, np.concatenate([np.hstack(rows[:3]), np.hstack(rows[3:])]))
