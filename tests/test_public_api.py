"""The names that `cuts3d_mm` offers, used as a stranger would."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from helpers.drawn import photo
from helpers.tiny_detectors import write_checkpoint
from mmengine.runner import CheckpointLoader
from mmengine.runner.checkpoint import load_from_local

import cuts3d_mm
from cuts3d_mm.algorithm.depth import depth_from_disparity
from cuts3d_mm.hub.publishing import CONFIG_FILE, WEIGHTS_FILE
from cuts3d_mm.images.reading import ImageFailure
from cuts3d_mm.inference import CutS3DInferencer, instances_of
from cuts3d_mm.labellers.detector import DetectorLabeller
from cuts3d_mm.scenes.rendering import render_scenes

CONFIG = 'cuts3d_color-texture_file-depth'
HEAVY = {'torch', 'mmdet', 'mmcv', 'mmpretrain', 'numba', 'scipy', 'cv2', 'pyarrow'}


@pytest.fixture(scope='module')
def scene():
    return render_scenes(1, seed=3)[0]


@pytest.fixture(scope='module')
def generator():
    return cuts3d_mm.load_generator(CONFIG)


def test_import_is_light_and_quick():
    code = (
        'import json, sys, time; before = set(sys.modules); start = time.process_time();'
        'import cuts3d_mm; seconds = time.process_time() - start;'
        "names = {name.partition('.')[0] for name in set(sys.modules) - before};"
        'print(json.dumps([seconds, sorted(names)]))'
    )
    run = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=True)
    seconds, names = json.loads(run.stdout)
    assert not HEAVY & set(names) and seconds < 0.3


def test_every_public_name_is_there_with_a_docstring():
    assert set(cuts3d_mm.__all__) <= set(dir(cuts3d_mm))
    for name in set(cuts3d_mm.__all__) - {'__version__'}:
        assert getattr(cuts3d_mm, name).__doc__
    with pytest.raises(AttributeError, match="has no attribute 'load_generators'"):
        _ = cuts3d_mm.load_generators


def test_three_lines_give_masks(generator, scene):
    instances = generator.predict(scene.image, depth=scene.depth)
    assert instances and isinstance(instances[0], cuts3d_mm.Instance)
    assert all(one.mask.shape == scene.image.shape[:2] and one.mask.any() for one in instances)


def test_disparity_gives_what_its_inverse_gives(generator, scene):
    disparity = 1 / scene.depth
    near = generator.predict(scene.image, depth=disparity, larger_is='near')
    far = generator.predict(scene.image, depth=depth_from_disparity(disparity))
    assert near and [a.mask.tobytes() for a in near] == [b.mask.tobytes() for b in far]


def test_depth_in_memory_gives_what_the_same_depth_in_a_file_gives(generator, scene, tmp_path):
    np.save(tmp_path / 'x.npy', scene.depth)
    depth = {'type': 'cuts3d_mm.DepthFromFile', 'root': str(tmp_path)}
    features = {'type': 'cuts3d_mm.ColorTextureFeatures'}
    model = {'type': 'cuts3d_mm.PseudoLabelGenerator', 'features': features, 'depth': depth}
    by_file = cuts3d_mm.load_generator(model, params=generator.params)
    found = by_file.predict(scene.image, name='x.png')
    given = generator.predict(scene.image, depth=scene.depth)
    assert [one.mask.tobytes() for one in found] == [one.mask.tobytes() for one in given]


def test_without_depth_the_error_names_the_argument_and_the_2d_config(generator, scene):
    with pytest.raises(ValueError, match=r'predict\(image, depth=array\).* maskcut_color-texture'):
        generator.predict(scene.image)
    assert cuts3d_mm.load_generator('maskcut_color-texture').predict(scene.image)


@pytest.mark.parametrize(
    ('depth', 'error', 'message'),
    [
        (np.zeros((4, 5)), ImageFailure, 'depth has no valid pixel'),
        (np.ones((4, 5, 1)), ValueError, r'depth must be \(h, w\), got shape \(4, 5, 1\)'),
        (np.ones((0, 5)), ValueError, r'depth must be \(h, w\), got shape \(0, 5\)'),
    ],
)
def test_depth_that_is_none_is_refused(generator, scene, depth, error, message):
    with pytest.raises(error, match=message):
        generator.predict(scene.image, depth=depth)


def test_other_parameters_replace_the_recipe_of_the_config(generator, scene):
    one = cuts3d_mm.load_generator(CONFIG, params=replace(generator.params, max_instances=1))
    assert len(one.predict(scene.image, depth=scene.depth)) == 1
    flat = cuts3d_mm.load_generator(CONFIG, params=cuts3d_mm.CutParams.maskcut())
    assert flat.predict(scene.image)


def test_explain_draws_a_recipe_and_another_to_its_right(generator, scene):
    alone = cuts3d_mm.explain(generator, scene.image, 1 / scene.depth, larger_is='near')
    both = cuts3d_mm.explain(CONFIG, scene.image, scene.depth, compare='maskcut_color-texture')
    assert not alone.subfigs
    assert [one.get_suptitle() for one in both.subfigs] == [CONFIG, 'maskcut_color-texture']


def test_configs_are_listed_and_each_is_found_by_its_name():
    generators = cuts3d_mm.list_configs('pseudo_labels')
    assert CONFIG in generators and set(generators) < set(cuts3d_mm.list_configs())
    with pytest.raises(ValueError, match='CONFIG must be a file or a shipped config'):
        cuts3d_mm.load_generator('cuts4d')


def test_a_detector_takes_rgb_and_finds_what_the_inferencer_of_mmdetection_finds(tmp_path, rng):
    config = write_checkpoint(tmp_path / 'detector.pth')
    weights = str(tmp_path / 'detector.pth')
    detector = cuts3d_mm.load_detector(config, weights, device='cpu', score_thr=0)
    image = photo(rng, (60, 88))
    (sample,) = CutS3DInferencer(config, weights, 'cpu').stream([image[..., ::-1].copy()])
    found, expected = detector.predict(image), instances_of(sample)
    assert found and len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        assert one.score == pytest.approx(other.score) and (one.mask == other.mask).all()
        assert np.allclose(one.box_xyxy, other.box_xyxy) and one.label == other.label
    with pytest.raises(ValueError, match=r'image must be \(H, W, 3\) uint8 RGB'):
        detector.predict(image[..., 0])


def test_after_a_detector_is_loaded_mmdetection_loads_as_before(tmp_path, monkeypatch):
    config = write_checkpoint(tmp_path / 'detector.pth')
    monkeypatch.setattr(CheckpointLoader, '_schemes', {'': load_from_local})
    monkeypatch.delitem(sys.modules, 'cuts3d_mm.weights.everywhere', raising=False)
    cuts3d_mm.load_detector(config, str(tmp_path / 'detector.pth'), device='cpu')
    assert CheckpointLoader._schemes == {'': load_from_local}
    assert 'cuts3d_mm.weights.everywhere' not in sys.modules
    with pytest.raises((ValueError, OSError), match='missing.pth'):
        cuts3d_mm.load_detector(config, str(tmp_path / 'missing.pth'), device='cpu')
    assert CheckpointLoader._schemes == {'': load_from_local}


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        ({'depth': np.ones((300, 40))}, 'depth must lie as the image does'),
        ({'larger_is': 'near'}, 'larger_is says how to read depth, which is not given'),
        ({'larger_is': 'naer'}, "larger_is must be 'far' or 'near'"),
    ],
)
def test_arguments_of_predict_that_would_be_misread_are_refused(generator, arguments, message):
    with pytest.raises(ValueError, match=message):
        generator.predict(np.zeros((60, 200, 3), np.uint8), **arguments)


@pytest.mark.parametrize('depth_hw', [(100, 101), (101, 100), (40, 40), (60, 61)])
def test_depth_of_a_nearly_square_image_may_be_rounded_to_either_side(generator, depth_hw):
    image = np.full((101, 100, 3), 99, np.uint8)
    image[:, 40:] = 200
    generator.predict(image, np.ones(depth_hw))


def test_depth_for_a_recipe_in_2d_is_refused():
    generator = cuts3d_mm.load_generator('maskcut_color-texture')
    with pytest.raises(ValueError, match='depth must not be given: the recipe uses none'):
        generator.predict(np.zeros((60, 90, 3), np.uint8), depth=np.ones((6, 9)))


@pytest.mark.parametrize('image', ['photo.jpg', [[0]], np.zeros((0, 5, 3), np.uint8)])
def test_what_is_no_image_is_refused(generator, image):
    with pytest.raises(ValueError, match=r'image must be \(H, W, 3\) uint8 RGB, got'):
        generator.predict(image, depth=np.ones((6, 9)))


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        ({'score_thr': 35}, r'score_thr must lie in \[0, 1\], got 35'),
        ({'max_per_image': -1}, 'max_per_image must be at least 1, got -1'),
    ],
)
def test_limits_of_a_detector_that_mean_nothing_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        DetectorLabeller(torch.nn.Identity(), [], **options)


def test_the_folder_of_a_release_may_be_a_path(tmp_path):
    (tmp_path / CONFIG_FILE).write_text('{"model": (')
    (tmp_path / WEIGHTS_FILE).write_bytes(b'')
    messages = []
    for model in (tmp_path, str(tmp_path)):
        with pytest.raises((ValueError, FileNotFoundError)) as caught:
            cuts3d_mm.load_detector(model)
        messages.append(str(caught.value))
    assert messages[0] == messages[1] and CONFIG_FILE in messages[0]


def test_the_weights_of_a_release_may_be_a_path(tmp_path):
    with pytest.raises(FileNotFoundError, match='checkpoint must be a file, found none at'):
        cuts3d_mm.load_detector(None, tmp_path / 'model.pth', device='cpu')
