from __future__ import annotations

import pickle

import numpy as np
import pytest
from label_stores import LOADING, dataset_config, write_labelled_images
from mmdet.registry import DATASETS
from torch.utils.data import DataLoader

from cuts3d_mm.labels.coco import write_coco


@pytest.fixture
def folder(tmp_path):
    write_labelled_images(tmp_path)
    return tmp_path


def test_every_labelled_image_is_there_and_failures_are_not(folder):
    dataset = DATASETS.build(dataset_config(folder))
    assert len(dataset) == 4
    assert [len(dataset.get_data_info(index)['instances']) for index in range(4)] == [2, 1, 3, 0]
    info = dataset.get_data_info(-2)
    assert info['height'] == 60 and info['width'] == 90 and info['sample_idx'] == 2
    assert info['img_path'].endswith('images/002.png')
    left, top, right, bottom = info['instances'][0]['bbox']
    assert 0 <= left < right <= 90 and 0 <= top < bottom <= 60


def test_empty_and_small_images_are_left_out_on_request(folder):
    empty = DATASETS.build(dataset_config(folder, filter_cfg=dict(filter_empty_gt=True)))
    assert len(empty) == 3
    assert len(DATASETS.build(dataset_config(folder, filter_cfg=dict(min_size=61)))) == 0


@pytest.mark.parametrize('indices, expected', [(2, [0, 1]), (-1, [3]), ([2, 0], [2, 0])])
def test_subsets_select_images(folder, indices, expected):
    dataset = DATASETS.build(dataset_config(folder))
    subset = dataset.get_subset(indices)
    assert [subset.get_data_info(i)['img_id'] for i in range(len(subset))] == expected
    assert len(dataset) == 4
    assert len(DATASETS.build(dataset_config(folder, indices=indices))) == len(expected)


def test_exported_json_gives_the_same_samples(folder):
    records = write_labelled_images(folder / 'again')
    json_path = folder / 'again' / 'labels.json'
    write_coco(json_path, lambda: records)
    from_json = DATASETS.build(dataset_config(folder / 'again', LOADING, ann_file='labels.json'))
    from_store = DATASETS.build(dataset_config(folder, LOADING))
    for index in range(4):
        one, other = from_json[index]['gt_masks'], from_store[index]['gt_masks']
        assert (one.masks == other.masks).all() and (one.doubt == other.doubt).all()
        np.testing.assert_allclose(one.scores, other.scores, atol=1e-6)


def test_classes_without_the_comma_are_refused_with_the_remedy(folder):
    with pytest.raises(ValueError, match='with a comma'):
        DATASETS.build(dataset_config(folder, metainfo=dict(classes='object')))


@pytest.mark.parametrize('is_sent', [False, True])
def test_workers_read_the_same_samples(folder, is_sent):
    dataset = DATASETS.build(dataset_config(folder, LOADING))
    given = pickle.loads(pickle.dumps(dataset)) if is_sent else dataset
    loader = DataLoader(given, num_workers=2, collate_fn=lambda batch: batch[0]['gt_masks'].masks)
    for index, masks in enumerate(loader):
        assert (masks == dataset[index]['gt_masks'].masks).all()
