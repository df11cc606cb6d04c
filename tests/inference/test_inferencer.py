from __future__ import annotations

import shutil
import subprocess
import sys

import numpy as np
import pytest
import torch
from helpers.commands import light_environment
from helpers.tiny_detectors import write_checkpoint
from mmdet.registry import MODELS
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmengine.runner import load_checkpoint
from PIL import Image
from pycocotools.coco import COCO

from cuts3d_mm.configs import load_config
from cuts3d_mm.engine.runner import build_detector
from cuts3d_mm.hub.client import CONFIG_FILE, HubRepository, download_repository
from cuts3d_mm.hub.publishing import ReleaseFacts, upload_files, write_release
from cuts3d_mm.inference import CutS3DInferencer, instances_of
from cuts3d_mm.inference.results import to_coco, to_index_image, to_supervision
from cuts3d_mm.operators import are_compiled

pytestmark = pytest.mark.slow
REPO = 'someone/tiny'


@pytest.fixture(scope='module')
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp('trained')
    return folder / 'iter_1.pth', write_checkpoint(folder / 'iter_1.pth')


@pytest.fixture(scope='module')
def inferencer(trained):
    return CutS3DInferencer(trained[1], str(trained[0]), 'cpu', show_progress=False)


@pytest.fixture
def images(rng):
    shapes = [(70, 110, 3), (90, 60, 3), (50, 80, 3)]
    return [rng.integers(0, 255, shape, np.uint8) for shape in shapes]


def release(trained, folder, scores=None):
    config = load_config(trained[1], [])
    folder.mkdir(exist_ok=True)
    facts = ReleaseFacts(REPO, scores or {}, 'apache-2.0')
    paths = write_release(
        str(trained[0]), config, build_detector(config).state_dict(), facts, folder
    )
    return {path.name: path for path in paths}


def assert_same(found, expected):
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(
            one.pred_instances.scores, other.pred_instances.scores, atol=1e-6, rtol=0
        )
        torch.testing.assert_close(
            one.pred_instances.bboxes, other.pred_instances.bboxes, atol=1e-6, rtol=0
        )
        assert np.array_equal(one.pred_instances.masks, other.pred_instances.masks)


def test_release_loads_by_repository_by_hf_address_and_from_a_folder(
    hub, trained, inferencer, images, tmp_path
):
    expected = list(inferencer.stream(images))
    assert sum(len(sample.pred_instances) for sample in expected) > 10
    upload_files(release(trained, tmp_path / 'release'), REPO)
    shutil.rmtree(tmp_path / 'release')

    from_hub = CutS3DInferencer(REPO, device='cpu', show_progress=False)
    assert_same(from_hub.stream(images), expected)
    addressed = CutS3DInferencer(f'hf://{REPO}', device='cpu', show_progress=False)
    assert_same(addressed.stream(images), expected)

    init_default_scope('mmdet')
    bare = Config({'model': from_hub.cfg.model, 'load_from': f'hf://{REPO}/model.safetensors'})
    detector = MODELS.build(bare.model)
    load_checkpoint(detector, bare.load_from, map_location='cpu', strict=True)
    from_hub.model = detector.eval()
    assert_same(from_hub.stream(images), expected)

    download_repository(HubRepository(REPO), tmp_path / 'copy')
    copied = CutS3DInferencer(str(tmp_path / 'copy'), device='cpu', show_progress=False)
    assert_same(copied.stream(images), expected)
    alone = CutS3DInferencer(weights=str(tmp_path / 'copy/model.pth'), device='cpu')
    assert_same(alone.stream(images), expected)


# MMDetection as it is, in a process where our reader of weights does not stand in for its own.
_STOCK = """
import sys
import numpy as np
import torch
from mmdet.apis import DetInferencer
stock = DetInferencer(weights=sys.argv[1], device='cpu', show_progress=False)
image = np.load(sys.argv[2] + '/image.npy')
found = stock(image, return_datasamples=True, no_save_vis=True)['predictions']
torch.save(found[0].pred_instances.scores, sys.argv[2] + '/scores.pt')
"""


@pytest.mark.skipif(not are_compiled(), reason='MMDetection alone needs compiled operators')
def test_released_checkpoint_loads_in_mmdet_alone(trained, inferencer, images, tmp_path):
    path = release(trained, tmp_path / 'release')['model.pth']
    content = torch.load(path, weights_only=True)
    assert content.keys() == {'state_dict', 'meta'}
    np.save(tmp_path / 'image.npy', images[0])
    command = [sys.executable, '-c', _STOCK, path, tmp_path]
    environment = light_environment()
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = torch.load(tmp_path / 'scores.pt', weights_only=True)
    expected = next(iter(inferencer.stream(images[:1]))).pred_instances.scores
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=0)


def test_the_code_of_a_config_in_a_training_checkpoint_is_not_read(trained):
    with pytest.raises(ValueError, match='holds no config of a release; name the model as well'):
        CutS3DInferencer(weights=str(trained[0]), device='cpu', show_progress=False)


def test_config_of_a_release_that_holds_code_is_refused(hub, trained, tmp_path):
    files = release(trained, tmp_path / 'release')
    files[CONFIG_FILE].write_text('import os\n' + files[CONFIG_FILE].read_text())
    upload_files(files, REPO)
    with pytest.raises(ValueError, match='must hold a config as JSON'):
        CutS3DInferencer(REPO, device='cpu')


def test_config_and_weights_are_of_one_commit(hub, trained, images, tmp_path):
    files = release(trained, tmp_path / 'release')
    first = upload_files(files, REPO).revision
    write_checkpoint(tmp_path / 'other.pth', seed=1)
    upload_files(release((tmp_path / 'other.pth', trained[1]), tmp_path / 'release'), REPO)
    pinned = CutS3DInferencer(f'{REPO}@{first}', device='cpu', show_progress=False)
    weights = {request[1] for request in hub.requests if 'safetensors' in request[1]}
    assert f'/{REPO}/resolve/{first}/model.safetensors' in weights
    expected = CutS3DInferencer(trained[1], str(trained[0]), 'cpu', show_progress=False)
    assert_same(pinned.stream(images), expected.stream(images))


def test_metrics_become_the_model_index_of_the_card(trained, tmp_path):
    from huggingface_hub import ModelCard

    scores = {'coco': {'box AP50': 0.219, 'mask AP': 0.097}}
    card = ModelCard.load(release(trained, tmp_path / 'release', scores)['README.md'])
    found = {(r.dataset_name, r.metric_type): r.metric_value for r in card.data.eval_results}
    assert found == {('coco', 'box AP50'): 21.9, ('coco', 'mask AP'): 9.7}
    assert '| coco | 21.90 | 9.70 |' in card.text and f"load_detector('{REPO}')" in card.text


@pytest.mark.parametrize(
    ('model', 'weights', 'message'),
    [
        (None, None, 'model or weights must be named'),
        ('cuts3d_tiny-cascade-mask-rcnn_r18_scenes.py', None, 'without published weights'),
        ('no_such_config.py', 'w.pth', 'must be a file or a shipped config'),
    ],
)
def test_what_names_no_detector_is_refused(model, weights, message):
    with pytest.raises(ValueError, match=message):
        CutS3DInferencer(model, weights)


def test_batches_and_calls_give_the_same_as_one_by_one(inferencer, images, tmp_path):
    for index, image in enumerate(images):
        Image.fromarray(image[..., ::-1]).save(tmp_path / f'{index}.png')
    found = inferencer(str(tmp_path), return_datasamples=True, out_dir=str(tmp_path / 'out'))
    by_name = sorted(found['predictions'], key=lambda sample: sample.img_path)
    assert_same(by_name, inferencer.stream(images))
    assert len(list((tmp_path / 'out/vis').iterdir())) == 3
    in_batches = [len(sample.pred_instances) for sample in inferencer.stream(images, 2)]
    assert len(in_batches) == 3


def test_streams_are_opened_by_name_and_leave_out_what_cannot_be_read(
    inferencer, images, tmp_path
):
    for index, image in enumerate(images):
        Image.fromarray(image[..., ::-1]).save(tmp_path / f'{index}.png')
    assert_same(inferencer.stream(tmp_path), inferencer.stream(images))
    (tmp_path / '1.png').write_bytes(b'no image')
    with pytest.warns(UserWarning, match=r'1\.png is left out: cannot be read'):
        found = list(inferencer.stream(str(tmp_path)))
    assert_same(found, inferencer.stream([images[0], images[2]]))


def test_results_agree_in_every_form(inferencer, images):
    sample = next(inferencer.stream(images[:1]))
    threshold = float(sample.pred_instances.scores.median())
    found, image_hw = instances_of(sample, threshold), images[0].shape[:2]
    arrays = to_supervision(found, image_hw)
    assert arrays['mask'].shape[1:] == (70, 110) and (arrays['confidence'] >= threshold).all()
    assert (np.diff(arrays['confidence']) <= 0).all()
    annotations = to_coco(found, image_hw, 7)
    scores = [one['score'] for one in annotations]
    assert scores == pytest.approx(arrays['confidence'].tolist(), abs=1e-6)
    coco = COCO()
    coco.dataset = {'images': [{'id': 7, 'height': 70, 'width': 110}], 'categories': [{'id': 1}]}
    coco.createIndex()
    loaded = coco.loadRes(annotations)
    index = to_index_image(found, image_hw)
    best = loaded.annToMask(loaded.anns[1]).astype(bool)
    assert index.dtype == np.uint16 and ((index == 1) == best).all()


def test_the_config_of_a_release_can_be_named_with_weights(trained, images, tmp_path):
    files = release(trained, tmp_path / 'release')
    found = [
        CutS3DInferencer(model, weights=weights, device='cpu', show_progress=False)
        for model, weights in (
            (str(tmp_path / 'release'), None),
            (str(files['config.json']), str(files['model.safetensors'])),
        )
    ]
    scores = [next(iter(one.stream(images[:1]))).pred_instances.scores for one in found]
    torch.testing.assert_close(*scores, atol=0, rtol=0)
