"""What runs on a GPU, on tensors that only say that they are on one (`helpers.fake_gpu`)."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
import torch
from helpers.fake_gpu import fake_gpus
from helpers.tiny_detectors import NARROW, batch_of, tiny_config
from mmengine.optim import build_optim_wrapper

from cuts3d_mm.images.reading import NamedImage
from cuts3d_mm.labellers.detector import DetectorLabeller
from cuts3d_mm.labellers.networks import choose_device
from cuts3d_mm.registry import MODELS

# OpenMMLab's packages are used with torch 2.1, where all of this is skipped.
pytestmark = pytest.mark.skipif(
    tuple(map(int, torch.__version__.split('.')[:2])) < (2, 6),
    reason='the stand-in for a GPU uses parts of torch 2.6 and newer',
)
AMP = 'cuts3d_mm.AmpPerParameterClipOptimWrapper'


@pytest.fixture
def gpu(monkeypatch):
    import mmcv.ops  # noqa: F401  whose compiled functions are wrapped

    with fake_gpus(monkeypatch) as copies:
        yield copies


def test_mixing_devices_is_noticed(gpu):
    on_gpu = torch.ones(3, device='cuda')
    with pytest.raises(RuntimeError, match='same device'):
        on_gpu + torch.ones(3)
    with pytest.raises(TypeError, match='numpy'):
        on_gpu.numpy()


@pytest.mark.parametrize('source', ['none', 'score', 'map'])
def test_a_detector_labels_on_a_gpu(gpu, rng, source):
    config = tiny_config(NARROW)
    pipeline = config.test_dataloader.dataset.pipeline
    labeller = DetectorLabeller(config.model.to_dict(), pipeline, confidence_source=source)
    image = NamedImage('a', rng.integers(0, 256, (60, 80, 3), np.uint8))
    found = labeller.to(choose_device('auto')).extract([image])
    pickle.dumps(found)  # to another process: nothing of it is on the GPU


@pytest.mark.parametrize('kind', ['cuts3d_mm.PerParameterClipOptimWrapper', AMP])
def test_a_training_step_runs_on_a_gpu(gpu, kind):
    config = tiny_config(NARROW)
    config.optim_wrapper.type = kind
    model = MODELS.build(config.model).to('cuda').train()
    wrapper = build_optim_wrapper(model, config.optim_wrapper)
    inputs, samples = batch_of((3, 2), np.random.default_rng(0))
    images = [(40 * image + 120).clamp(0, 255).to(torch.uint8) for image in inputs]
    losses = model.train_step({'inputs': images, 'data_samples': samples}, wrapper)
    assert all(torch.isfinite(loss) for loss in losses.values())
