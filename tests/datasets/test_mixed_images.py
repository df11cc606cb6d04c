from __future__ import annotations

import numpy as np
import pytest
from label_stores import LOADING, dataset_config, write_labelled_images
from mmdet.registry import DATASETS, TRANSFORMS

OUTER = [
    {'type': 'cuts3d_mm.ConfidentCopyPaste'},
    {'type': 'RandomFlip', 'prob': 0.5},
    {'type': 'PackDetInputs'},
]


@pytest.fixture
def inner(tmp_path):
    write_labelled_images(tmp_path)
    return dataset_config(tmp_path, LOADING, filter_cfg=dict(filter_empty_gt=True))


def build(kind, inner, outer=OUTER):
    return DATASETS.build({'type': kind, 'dataset': inner, 'pipeline': outer})


def test_samples_are_those_of_mmdetection(inner):
    ours, theirs = (
        build(k, inner) for k in ('cuts3d_mm.MixedImagesDataset', 'MultiImageMixDataset')
    )
    assert len(ours) == len(theirs) > 1
    for index in [*range(len(ours)), 0]:  # the first again: nothing was changed in place
        pair = []
        for dataset in (ours, theirs):
            np.random.seed(index)
            pair.append(dataset[index])
        mine, other = pair
        assert (mine['inputs'] == other['inputs']).all()
        mine, other = (one['data_samples'].gt_instances for one in pair)
        assert (mine.bboxes.tensor == other.bboxes.tensor).all()
        assert (mine.masks.masks == other.masks.masks).all()
        assert (mine.masks.confidence == other.masks.confidence).all()


@pytest.fixture
def failing():
    calls = []

    class FailsTwice:
        """A transform that gives a sample up twice."""

        def __init__(self, always=False):
            self.always = always

        def __call__(self, results):
            calls.append(results['img_path'])
            return None if self.always or len(calls) < 3 else results

    TRANSFORMS.register_module(name='FailsTwice', module=FailsTwice, force=True)
    yield calls
    TRANSFORMS._module_dict.pop('FailsTwice')


def test_a_sample_that_is_given_up_begins_again(inner, failing):
    outer = [*OUTER[:1], {'type': 'FailsTwice'}, *OUTER[2:]]
    assert build('cuts3d_mm.MixedImagesDataset', inner, outer)[1]['inputs'].ndim == 3
    assert len(failing) == 3 and len(set(failing)) == 1


def test_a_sample_that_never_comes_is_an_error(inner, failing):
    outer = [{'type': 'FailsTwice', 'always': True}]
    with pytest.raises(RuntimeError, match='within 15 attempts'):
        build('cuts3d_mm.MixedImagesDataset', inner, outer)[0]
    assert len(failing) == 15
