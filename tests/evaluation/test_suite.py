from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from helpers.commands import light_environment
from helpers.drawn import write_labelled_images
from helpers.tiny_detectors import NARROW, TINY
from mmdet.registry import MODELS
from mmengine.config import Config
from mmengine.registry import init_default_scope

from cuts3d_mm.configs import load_config
from cuts3d_mm.evaluation import suite
from cuts3d_mm.evaluation.conversion import prepare
from cuts3d_mm.evaluation.datasets import EVALUATION_SETS
from cuts3d_mm.labels.coco import write_coco
from cuts3d_mm.visualization.charts import draw_table


@pytest.fixture(scope='module')
def prepared(tmp_path_factory):
    """Drawn images as COCO val2017, and a detector that has learnt nothing."""
    root = tmp_path_factory.mktemp('suite')
    records = write_labelled_images(root / 'src', (2, 1))[:2]
    (root / 'src' / 'images').rename(root / 'src' / 'val2017')
    (root / 'src' / 'annotations').mkdir()
    write_coco(root / 'src' / 'annotations' / 'instances_val2017.json', lambda: records)
    source = EVALUATION_SETS['coco'].open_source(root / 'src')
    prepare(source, root / 'coco.json', {'image_folder': str(source.image_folder)})
    config = load_config(TINY, [*NARROW, 'test_dataloader.num_workers=0'])
    config.test_dataloader.persistent_workers = False
    init_default_scope('mmdet')
    torch.manual_seed(0)
    torch.save({'state_dict': MODELS.build(config.model).state_dict()}, root / 'detector.pth')
    return root, config


def evaluate(prepared, out):
    root, config = prepared
    return suite.evaluate_set(config, str(root / 'detector.pth'), 'coco', root / 'coco.json', out)


@pytest.mark.slow
def test_a_set_is_scored_once(prepared, tmp_path, monkeypatch):
    scores = evaluate(prepared, tmp_path)
    assert {'coco/bbox_mAP', 'coco/segm_AR@100', 'num_images'} <= set(scores)
    monkeypatch.setattr(suite, '_run', None)  # must not be called again
    assert evaluate(prepared, tmp_path) == scores


@pytest.mark.slow
def test_two_processes_score_set_after_set_as_one_does(prepared, tmp_path):
    root, config = prepared
    config.dump(tmp_path / 'config.py')
    data = tmp_path / 'data'
    data.mkdir()
    for name in ('coco', 'coco20k'):
        shutil.copy(root / 'coco.json', data / f'{name}.json')
    script = Path(__file__).parents[2] / 'tools/dist_evaluate_suite.sh'
    arguments = [tmp_path / 'config.py', root / 'detector.pth', 2, data, tmp_path / 'out']
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ['PATH']])
    environment = {**light_environment(), 'PATH': path, 'PORT': '29517'}
    command = ['bash', *map(str, (script, *arguments))]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count('AP50 / AP, percent') == 2  # one process prints: boxes, masks
    alone = evaluate(prepared, tmp_path / 'alone')
    scores = json.loads((tmp_path / 'out/table.json').read_text())
    assert scores == {'coco': alone, 'coco20k': alone}


def test_scores_of_another_detector_are_not_taken(prepared, tmp_path):
    (tmp_path / 'coco.json').write_text(json.dumps({'identity': {}, 'scores': {}}))
    with pytest.raises(ValueError, match='scores of another run; differing: weights_sha256'):
        evaluate(prepared, tmp_path)


def test_scores_of_images_of_another_size_are_not_taken(prepared, tmp_path, monkeypatch):
    monkeypatch.setattr(suite, '_run', lambda *_: {})
    evaluate(prepared, tmp_path)
    root, config = prepared
    other = Config(config.to_dict())
    other.test_dataloader.dataset.pipeline[1].scale = (99, 77)
    with pytest.raises(ValueError, match='differing: test_pipeline_sha256'):
        evaluate((root, other), tmp_path)


def test_table_keeps_published_rows_apart_and_names_their_source():
    one = {'coco/bbox_mAP_50': 0.5, 'coco/bbox_mAP': 0.25}
    header, rows = suite.suite_table(
        'ours', {'coco': one | {'num_images': 5000}, 'kitti': one | {'num_images': 9}}
    )
    assert header[2:] == ['average', 'COCO val2017', 'KITTI (9 of 7481 images)']
    assert rows[0] == ['ours', 'this run', '-', '50.0 / 25.0', '50.0 / 25.0']
    assert all('paper' in row[1] or 'README' in row[1] for row in rows[1:])
    assert rows[3][2:] == ['22.3 / 11.7', '23.9 / 13.0', '18.7 / 8.7']
    assert rows[2][4] == '- / 4.6'  # a figure that could not be read


def test_average_needs_all_sets_of_the_table():
    one = {'coco/bbox_mAP_50': 0.5, 'coco/bbox_mAP': 0.25, 'num_images': 1}
    _, rows = suite.suite_table('ours', dict.fromkeys(suite.TABLE_2, one))
    assert rows[0][2] == '50.0 / 25.0'
    assert draw_table(*suite.suite_table('ours', {'uvo': one}), 'title').axes


def test_masks_have_a_table_of_their_own_with_the_rows_of_table_1():
    boxes = {'coco/bbox_mAP_50': 0.5, 'coco/bbox_mAP': 0.25}
    masks = {'coco/segm_mAP_50': 0.3, 'coco/segm_mAP': 0.1, 'num_images': 5000}
    scores = {'coco': boxes | masks, 'kitti': boxes | {'num_images': 7481}}
    header, rows = suite.suite_table('ours', scores, 'segm')
    assert header[2:] == ['average', 'COCO val2017']
    found = {(row[0], row[1].rpartition(' ')[2]): row[3] for row in rows}
    assert found['ours', 'run'] == '30.0 / 10.0'
    assert found['CutLER', '1'] == '18.9 / 9.7'
    assert found['CutS3D, DiffNCuts', '1'] == '20.1 / 10.2'
    assert found['CutS3D, 3 rounds', 'it'] == '20.8 / 10.7'
    assert found['CutS3D over CuVLER, both in-domain', '3'] == '- / +0.7'
    assert suite.suite_table('ours', {'kitti': scores['kitti']}, 'segm')[1] == []
