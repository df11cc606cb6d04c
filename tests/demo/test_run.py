from __future__ import annotations

import json

import pytest

pytest.importorskip('skimage')
pytest.importorskip('imgviz')

from cuts3d_mm.demo.datasets import scenes_to_coco  # noqa: E402
from cuts3d_mm.demo.page import PageEntry, write_page  # noqa: E402
from cuts3d_mm.demo.run import run_demo  # noqa: E402
from cuts3d_mm.demo.training import write_training_scenes  # noqa: E402
from cuts3d_mm.scenes.rendering import render_scenes  # noqa: E402


@pytest.mark.slow
def test_demo_writes_a_page_with_every_photo_and_a_table(tmp_path):
    table = run_demo(
        tmp_path, num_scenes=3, workers=1, picture=tmp_path / 'picture.png', max_iters=0
    )
    page = (tmp_path / 'index.html').read_text()
    assert page.count('<figure>') == 5 and (tmp_path / 'picture.png').is_file()
    assert 'MaskCut (2D) | scenes' in ' '.join(table.split())
    rows = json.loads((tmp_path / 'scores.json').read_text())
    assert [row[:2] for row in rows] == [
        [recipe, images]
        for recipe in ('MaskCut (2D)', 'CutS3D')
        for images in ('arc2017', 'scenes')
    ]


def test_scenes_to_train_on_and_to_test_on_differ(tmp_path):
    training, held_out = write_training_scenes(tmp_path, 2, 1)
    assert len(list(training.images.iterdir())) == 2
    assert (tmp_path / 'held_out' / 'instances.json').is_file()
    first, other = (one.images / 'scene_000.png' for one in (training, held_out))
    assert first.read_bytes() != other.read_bytes()


def test_ground_truth_of_scenes_has_the_size_of_the_scenes():
    truth = scenes_to_coco(render_scenes(2))
    assert {(i['height'], i['width']) for i in truth['images']} == {(300, 400)}
    assert all(a['segmentation']['size'] == [300, 400] for a in truth['annotations'])


def test_page_escapes_names(tmp_path):
    write_page(tmp_path / 'x.html', '<table>', [PageEntry('a & b', '<x>.png', 'f.png')])
    text = (tmp_path / 'x.html').read_text()
    assert '&lt;table&gt;' in text and 'a &amp; b' in text and '<x>' not in text
