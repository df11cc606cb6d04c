from __future__ import annotations

import numpy as np
import pytest
from mmcv.transforms import Compose
from mmdet.datasets.transforms import LoadAnnotations
from mmengine.registry import init_default_scope

from cuts3d_mm.configs import read_arrays, shipped_root, without_labels

RESIZE = {'type': 'Resize', 'scale': (64, 48), 'keep_ratio': False}
PACK = {'type': 'mmdet.PackDetInputs', 'meta_keys': ('img_id', 'img_path', 'scale_factor')}
LOADERS_OF_LABELS = [
    {'type': 'LoadAnnotations', 'with_mask': True},
    {'type': 'mmdet.LoadPanopticAnnotations'},
    {'type': 'cuts3d_mm.LoadPseudoLabels'},
    {'type': 'LoadProposals'},
    {'type': 'FilterAnnotations'},
    {'type': LoadAnnotations},
]


@pytest.mark.parametrize('loader', LOADERS_OF_LABELS, ids=lambda step: str(step['type']))
def test_steps_that_need_labels_are_left_out(loader):
    image = {'type': 'LoadImageFromFile'}
    assert without_labels([image, loader, RESIZE, PACK]) == [image, RESIZE, PACK]
    assert [step['type'] for step in read_arrays([image, loader, RESIZE])][1:] == ['Resize']


def test_a_pipeline_takes_an_array_instead_of_a_file(rng):
    init_default_scope('mmdet')
    steps = [{'type': 'LoadImageFromFile', 'to_float32': True}, *LOADERS_OF_LABELS, RESIZE, PACK]
    bgr = rng.integers(0, 255, (30, 50, 3), np.uint8)
    packed = Compose(read_arrays(steps))({'img': bgr, 'img_id': 0})
    assert tuple(packed['inputs'].shape) == (3, 48, 64) and packed['inputs'].is_floating_point()
    assert packed['data_samples'].scale_factor == pytest.approx((64 / 50, 48 / 30))


def test_a_pipeline_that_is_changed_stays_as_it_was():
    steps = [{'type': 'LoadImageFromFile'}, dict(PACK)]
    read_arrays(steps), without_labels(steps)
    assert steps == [{'type': 'LoadImageFromFile'}, PACK]


@pytest.mark.parametrize('layout', ['checkout', 'editable', 'wheel'])
def test_shipped_files_have_one_root_in_every_layout(layout, tmp_path, monkeypatch):
    package = tmp_path / 'cuts3d_mm'
    root = package / '.mim' if layout == 'wheel' else tmp_path
    (root / 'configs').mkdir(parents=True)
    if layout == 'editable':
        (package / '.mim').mkdir(parents=True)
        (package / '.mim/configs').symlink_to('../../configs')
    monkeypatch.setattr('cuts3d_mm.configs._PACKAGE', package)
    assert shipped_root() == root
