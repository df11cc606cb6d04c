from __future__ import annotations

import os
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from helpers.drawn import photo
from helpers.mutated_files import postscript
from helpers.tiny_detectors import write_checkpoint
from PIL import Image

from cuts3d_mm.app.cutting_page import PhotoCutter, recipe_sliders
from cuts3d_mm.configs import load_generator_config
from cuts3d_mm.labellers.detector import DetectorLabeller
from cuts3d_mm.labellers.registry import build_labeller
from cuts3d_mm.visualization.figures import draw_point_cloud

pytestmark = pytest.mark.slow
CONFIG = 'cuts3d_color-texture_file-depth.py'


@pytest.fixture(scope='module')
def cutter():
    return PhotoCutter(load_generator_config(CONFIG, []))


def test_a_depth_map_changes_what_is_cut_and_changes_reach_the_recipe(app, cutter, tmp_path):
    example = app.write_examples(tmp_path)[0]
    pixels = np.asarray(Image.open(example.photo))
    cuts, flat = cutter.cut(pixels, example.depth, {}), cutter.cut(pixels, None, {})
    assert cuts.depth.max() == 1 and flat.depth.max() == 0
    found = [[one.patches.tobytes() for one in of.instances] for of in (cuts, flat)]
    assert found[0] and found[0] != found[1]
    assert not cutter.cut(pixels, example.depth, {'min_area_ratio': 0.99}).instances


def cut_of(page):
    """The function behind the button, and where its sliders start."""
    dependency = next(iter(page.fns.values()))
    return dependency.fn, [slider.value for slider in dependency.inputs[2:]]


@pytest.mark.parametrize(
    ('recipe', 'starts', 'moved', 'changes'),
    [
        ({}, [3, 0.15, 0.45, 5.0, 0.115], [2, 0.15, 0.45, 5.0, 0.115], {'max_instances': 2}),
        (
            {'max_instances': 25, 'local_cut': {'tau_knn': 0.6}},
            [25, 0.15, 0.45, 5.0, 0.6],
            [25, 0.3, 0.45, 5.0, 0.05],
            {'ncut.tau_ncut': 0.3, 'local_cut.tau_knn': 0.05},
        ),
        ({'preset': 'maskcut', 'max_instances': None}, [20, 0.15, 5.0], [5, 0.15, 5.0],
         {'max_instances': 5}),
        ({'preset': 'cuts3d'}, [10, 0.01, 0.15, 0.2, 5.0, 1.0], [10, 0.01, 0.15, 0.2, 5.0, 3.0],
         {'local_cut.evidence.min_contrast': 3.0}),
    ],
)  # fmt: skip
def test_sliders_start_at_the_config_and_only_moved_ones_override_it(
    app, monkeypatch, recipe, starts, moved, changes
):
    model = load_generator_config(CONFIG, [])
    cutter = PhotoCutter({**model, 'recipe': {'preset': 'paper', **recipe}})
    seen = []
    monkeypatch.setattr(cutter, 'cut', lambda photo, depth, changes: seen.append(changes))
    cut, values = cut_of(app.build_page(cutter, None, []))
    assert values == starts
    for sent in (values, moved):
        with pytest.raises(app.Error):  # nothing is cut here
            cut(np.zeros((60, 88, 3), np.uint8), None, *sent)
    assert seen == [{}, changes]


def test_both_ends_of_every_slider_are_taken_and_change_masks(app, cutter, tmp_path):
    example = app.write_examples(tmp_path)[0]
    pixels = np.asarray(Image.open(example.photo))

    def masks(changes):
        found = cutter.cut(pixels, example.depth, changes).instances
        return [one.mask.tobytes() for one in found]

    shown = masks({})
    for slider in recipe_sliders(cutter.params):
        ends = [masks({slider.field: end}) for end in (slider.lowest, slider.highest)]
        assert ends != [shown, shown], slider
    with pytest.raises(ValueError, match='max_instances must be at least 1 and finite, got 0'):
        masks({'max_instances': 0})


def test_without_depth_there_is_no_cloud_and_no_row_in_3d(app, cutter, tmp_path):
    example = app.write_examples(tmp_path)[0]
    cut, values = cut_of(app.build_page(cutter, None, []))
    pixels = np.asarray(Image.open(example.photo))
    clouds = [cut(pixels, depth, *values)[1] for depth in (str(example.depth), None)]
    assert [cloud.visible for cloud in clouds] == [True, False]
    assert clouds[1].value is None


def test_the_app_cuts_as_generate_does_with_the_same_config(app, cutter, tmp_path):
    example = app.write_examples(tmp_path)[0]
    pixels = np.asarray(Image.open(example.photo))
    depth = tmp_path / 'depth'
    depth.mkdir()
    shutil.copy(example.depth, depth)
    options = [f'model.depth.root={depth}']
    generator = build_labeller(load_generator_config(CONFIG, options))
    wanted = generator.predict(pixels, name=example.photo.name)
    shown = cutter.cut(pixels, example.depth, {}).instances
    assert [one.score for one in shown] == [one.score for one in wanted]
    assert all((a.mask == b.mask).all() for a, b in zip(shown, wanted, strict=True))


def test_wrong_depth_files_are_told(cutter, rng, tmp_path):
    with pytest.raises(ValueError, match='a depth map must be one of'):
        cutter.cut(photo(rng, (60, 88)), tmp_path / 'depth.exr', {})


def test_point_cloud_has_a_point_per_patch_and_a_trace_per_instance(app, cutter, tmp_path):
    example = app.write_examples(tmp_path)[0]
    pixels = np.asarray(Image.open(example.photo))
    cuts = cutter.cut(pixels, example.depth, {})
    figure = draw_point_cloud(pixels, cuts)
    assert len(figure.data) == 1 + len(cuts.instances)
    assert sum(len(trace.x) for trace in figure.data) == cuts.depth.size
    assert all(0 <= value <= 1 for trace in figure.data for value in trace.y)
    grey = {re.sub(r'rgb\((\d+),\1,\1\)', '', css) for css in figure.data[0].marker.color}
    assert figure.data[0].name == 'not in an instance' and grey == {''}


def payload_of(path):
    from gradio.data_classes import ImageData

    return ImageData(path=str(path), orig_name=path.name)


def test_wrong_photos_are_messages_without_a_traceback(app, cutter, tmp_path, capfd):
    page = app.build_page(cutter, None, [])
    photo = next(block for block in page.blocks.values() if block.elem_id == 'photo')
    broken = tmp_path / 'broken.png'
    broken.write_bytes(b'no photo')
    drawing = tmp_path / 'drawing.jpg'
    drawing.write_bytes(postscript())
    large, huge = tmp_path / 'large.png', tmp_path / 'huge.png'
    Image.new('1', (9_000, 6_000)).save(large)
    Image.new('1', (20_000, 10_000)).save(huge)  # more than Pillow itself opens
    for path, message in (
        (broken, 'cannot be read as an image'),
        (large, 'at most 50 megapixels'),
        (huge, 'at most 50 megapixels'),
        (drawing, 'cannot be read as an image'),
        (tmp_path / 'none.png', 'cannot be read as an image'),
    ):
        with pytest.raises(app.Error, match=message) as error:
            photo.preprocess(payload_of(path))
        assert not error.value.print_exception
    cut, values = cut_of(page)
    for arguments, message in (
        ((None, None, *values), 'choose a photo first'),
        ((np.zeros((60, 88, 3), np.uint8), str(broken), *values), 'depth'),
    ):
        with pytest.raises(app.Error, match=message) as error:
            cut(*arguments)
        assert not error.value.print_exception
    assert photo.preprocess(None) is None and 'Traceback' not in ''.join(capfd.readouterr())


def test_a_photo_of_a_phone_is_shown_upright(app, cutter, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # rotated by 90 degrees
    Image.new('RGB', (30, 20)).save(tmp_path / 'phone.jpg', exif=exif)
    page = app.build_page(cutter, None, [])
    photo = next(block for block in page.blocks.values() if block.elem_id == 'photo')
    assert photo.preprocess(payload_of(tmp_path / 'phone.jpg')).shape == (30, 20, 3)


def test_a_visitor_uploads_a_photo_and_sees_the_pictures(app, browser, cutter, tmp_path):
    """With CUTS3D_DOCS=docs/pictures the screenshot of the README is taken."""
    weights = tmp_path / 'iter_1.pth'
    config = write_checkpoint(weights)
    detector = DetectorLabeller.load(config, str(weights), 'cpu')
    example = app.write_examples(tmp_path)[0]
    site = app.build_page(cutter, detector, [example])
    url = app.launch(site, allowed_paths=[str(tmp_path)])
    try:
        page = browser.new_page(viewport={'width': 1280, 'height': 1250})
        page.set_default_timeout(60_000)
        page.goto(url)
        for part in ('#overlay img', '#stages img', '#cloud canvas'):  # the example is cut
            page.locator(part).first.wait_for()
        size = page.locator('#overlay img').evaluate('i => [i.naturalWidth, i.naturalHeight]')
        assert tuple(size) == Image.open(example.photo).size
        before = page.locator('#overlay img').get_attribute('src')
        page.locator('input[aria-label^="number input for Smallest"]').fill('0.2')
        page.keyboard.press('Tab')  # a slider that is let go cuts again
        page.wait_for_function('s => document.querySelector("#overlay img").src !== s', arg=before)
        page.locator('#photo input[type=file]').set_input_files(str(example.photo))
        page.locator('#depth button[aria-label="Remove this file"], #depth button').first.click()
        page.locator('#cut').click()
        page.locator('#cloud').wait_for(state='hidden')
        page.reload()
        page.locator('#cloud canvas').first.wait_for()
        page.wait_for_timeout(1500)  # the cloud is drawn
        target = Path(os.environ.get('CUTS3D_DOCS', tmp_path)) / 'app.png'
        page.screenshot(path=str(target))
        assert np.asarray(Image.open(target).convert('RGB')).std() > 10

        page.get_by_role('tab', name='Detect').click()
        page.locator('#photo_to_detect input[type=file]').set_input_files(str(example.photo))
        page.locator('#detect').click()
        page.locator('#detections img').first.wait_for()
    finally:
        site.close()
