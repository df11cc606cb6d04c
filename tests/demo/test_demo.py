from __future__ import annotations

import json
import subprocess
import sys

import pytest
from helpers.servers import Repository
from helpers.training import VIT, trainings_forked, write_detector

pytest.importorskip('skimage')
pytest.importorskip('imgviz')

from cuts3d_mm.configs import load_generator_config  # noqa: E402
from cuts3d_mm.demo import demo, rounds  # noqa: E402
from cuts3d_mm.demo.photos import HELD_OUT_SEED, TRAINING_SEED, scenes_to_coco, write_scenes  # noqa: E402
from cuts3d_mm.learning import planning  # noqa: E402
from cuts3d_mm.scenes.rendering import render_scenes  # noqa: E402

SMALL_DEPTH = 'depth-anything/Depth-Anything-V2-Small-hf'


def load_small(config, options):
    model = load_generator_config(config, [*options, 'model.input_hw=(96,128)'])
    if 'backbone' in model['features']:
        model['features']['backbone'] = {'arch': VIT, 'patch_size': 8, 'img_size': 32}
    return model


@pytest.fixture(params=[False, True], ids=['without networks', 'with networks'])
def has_networks(request, hub, tmp_path):
    """Whether the Hub has the two networks; they are tiny and random."""
    if request.param:
        import safetensors.torch
        from helpers.tiny_networks import depth_anything
        from timm.models.vision_transformer import VisionTransformer

        sizes = {'img_size': 32, 'patch_size': 8, 'embed_dim': 32, 'depth': 2, 'num_heads': 2}
        network = VisionTransformer(**sizes, mlp_ratio=2, num_classes=0)
        dino = {'model.safetensors': safetensors.torch.save(network.state_dict())}
        for part in depth_anything():
            part.save_pretrained(tmp_path / 'depth')
        depth = {path.name: path.read_bytes() for path in (tmp_path / 'depth').iterdir()}
        for name, files in {'timm/vit_small_patch8_224.dino': dino, SMALL_DEPTH: depth}.items():
            hub.repositories['models', name] = Repository(private=False)
            hub.repositories['models', name].commit(files)
    return request.param


@pytest.mark.slow
def test_demo_writes_one_page_with_all_recipes_on_every_image_and_a_table(
    tmp_path, monkeypatch, has_networks, capsys
):
    monkeypatch.setattr(demo, 'load_generator_config', load_small)
    pictures = tmp_path / 'pictures'
    table = demo.run_demo(
        tmp_path, num_scenes=3, workers=0, pictures=pictures, rounds=0, num_seeds=0
    )
    page = (tmp_path / 'index.html').read_text()
    num_images = 3 + 3  # photos and scenes
    num_more = 3 * has_networks  # photos with DINO
    assert page.count('<details>') == num_images
    assert page.count('<figcaption>') == 2 * num_images + num_more
    assert page.count('<figure><img loading="lazy" src="data:image/') == 3 * num_images + num_more
    assert page.count('<figcaption>CutS3D with DINO: ') == num_more
    why = [line for line in capsys.readouterr().err.splitlines() if 'CutS3D with DINO' in line]
    assert len(why) == (not has_networks)
    assert '<td>MaskCut (2D)</td>' in page and '<pre>' not in page
    assert {path.name for path in pictures.iterdir()} == {'photo.jpg', 'stages.jpg'}
    rows = json.loads((tmp_path / 'scores.json').read_text())
    assert [row[0] for row in rows] == ['MaskCut (2D)', 'CutS3D']
    assert all(cell in table for row in rows for cell in row)


@pytest.mark.slow
def test_demo_shows_what_learn_made_of_scenes(tmp_path, monkeypatch):
    monkeypatch.setattr(demo, 'NUM_SCENES', 3)
    monkeypatch.setattr(demo, 'NUM_TEST_SCENES', 2)
    detector = write_detector(tmp_path / 'detector.py')
    monkeypatch.setattr(planning, 'EMBEDDED_DETECTOR', detector)
    with trainings_forked():
        trainings = dict(demo.learn_from_scenes(tmp_path, workers=0, rounds=1, num_seeds=1))
    rows, control = trainings['training'].rows, rounds.CONTROL
    assert [row[0] for row in rows] == [
        'pseudo-labels',
        'detector, initial round',
        'detector, round 1',
        control,
    ]
    assert len(trainings['training'].pictures) == 2
    assert (tmp_path / 'learned_0' / 'report.html').is_file()


def test_scenes_to_train_on_and_to_test_on_differ(tmp_path):
    sets = [write_scenes(tmp_path / str(n), '', 2, n) for n in (TRAINING_SEED, HELD_OUT_SEED)]
    assert all(len(list(one.images.iterdir())) == 2 for one in sets)
    assert all(one.ground_truth.is_file() for one in sets)
    first, other = (one.images / 'scene_000.png' for one in sets)
    assert first.read_bytes() != other.read_bytes()


def test_ground_truth_of_scenes_has_the_size_of_the_scenes():
    truth = scenes_to_coco(render_scenes(2))
    assert {(i['height'], i['width']) for i in truth['images']} == {(300, 400)}
    assert all(a['segmentation']['size'] == [300, 400] for a in truth['annotations'])


def test_masks_are_cut_and_scored_where_mmdetection_is_not_installed_yet():
    blocked = "import sys; sys.modules.update(dict.fromkeys(['mmdet', 'mmcv', 'torch']))\n"
    code = f'{blocked}import cuts3d_mm.demo.demo, cuts3d_mm.evaluation.label_scores'
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
