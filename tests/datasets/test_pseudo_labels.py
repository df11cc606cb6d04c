from __future__ import annotations

import json
import pickle

import numpy as np
import pytest
from helpers.drawn import LOADING, dataset_config, disc, write_labelled_images
from mmdet.registry import DATASETS, TRANSFORMS
from PIL import Image
from torch.utils.data import DataLoader

from cuts3d_mm.images.reading import ImageFailure, read_image
from cuts3d_mm.labels.coco import coco_annotation, write_coco
from cuts3d_mm.labels.merging import LabelSelection
from cuts3d_mm.labels.record import encode_instance


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


@pytest.mark.parametrize('select', ['none', '0.5', '50%'])
def test_labels_that_are_not_selected_are_not_trained_on(folder, select):
    everything = DATASETS.build(dataset_config(folder))
    scores = [one['score'] for i in range(4) for one in everything.get_data_info(i)['instances']]
    least = LabelSelection.parse(select).threshold(np.array(scores))
    config = dict(select=select, filter_empty_gt=True)
    chosen = DATASETS.build(dataset_config(folder, filter_cfg=config))
    infos = [chosen.get_data_info(index) for index in range(len(chosen))]
    found = [[one for one in info['instances'] if not one['ignore_flag']] for info in infos]
    assert all(found)
    kept = [one['score'] for image in found for one in image]
    assert kept == [score for score in scores if score >= least]
    watched = DATASETS.build(dataset_config(folder, filter_cfg=config, test_mode=True))
    assert len(watched) == 4


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


@pytest.mark.parametrize('color_type', ['color_ignore_orientation', 'color'])
def test_images_are_read_as_they_are_labelled_unless_the_pipeline_says_otherwise(
    folder, color_type
):
    path = folder / 'images/000.png'
    Image.fromarray(np.full((60, 90), 2000, np.uint16)).save(path)  # 12 bits in 16
    load = {'type': 'LoadImageFromFile', 'color_type': color_type, 'to_float32': True}
    found = DATASETS.build(dataset_config(folder, [load]))[0]
    is_ours = (found['img'] == read_image(path)[..., ::-1]).all()
    assert is_ours == (color_type != 'color')
    assert found['img'].dtype == np.float32 and found['ori_shape'] == (60, 90)


def test_an_image_that_cannot_be_read_is_a_record_and_another_takes_its_place(folder):
    def dataset(failures=folder / 'failed.txt', **options):
        failures = failures and str(failures)
        return DATASETS.build(dataset_config(folder, LOADING, failures=failures, **options))

    paths = sorted((folder / 'images').iterdir())
    paths[0].write_bytes(paths[0].read_bytes()[:90])
    trained_on = dataset()
    found = [trained_on[0]['img_path'] for _ in range(20)]
    assert str(paths[0]) not in found and set(found) <= set(map(str, paths))
    watched = dataset(test_mode=True)[0]
    assert watched['img_path'] == str(paths[0]) and watched['img'].shape == (60, 90, 3)
    (line,) = (folder / 'failed.txt').read_text().splitlines()
    assert line.startswith(f'{paths[0]}: cannot be read as an image')
    with pytest.raises(ImageFailure, match=r'images/000\.png: cannot be read as an image'):
        dataset(failures=None, test_mode=True)[0]
    paths[1].unlink()
    with pytest.raises(ValueError, match='at most 1 of 4 images .*max_failures'):
        trained_on[1]
    generous = dataset(max_failures=0.5)
    assert generous[0] and generous[1]


@pytest.mark.slow
def test_all_classes_become_one(tmp_path):
    annotation = coco_annotation(encode_instance(disc((9, 12), 5, (30, 50)), None, 1), (30, 50))
    found = [
        {**annotation, 'id': n, 'image_id': 1, 'category_id': c, 'iscrowd': int(c == 90)}
        for n, c in enumerate((3, 17, 90), start=1)
    ]
    dataset = {
        'images': [{'id': 1, 'file_name': 'a.jpg', 'height': 30, 'width': 50}],
        'annotations': found,
        'categories': [{'id': c, 'name': str(c)} for c in (3, 17, 90)],
    }
    (tmp_path / 'gt.json').write_text(json.dumps(dataset))
    built = DATASETS.build(
        {
            'type': 'cuts3d_mm.ClassAgnosticCocoDataset',
            'data_root': str(tmp_path),
            'ann_file': 'gt.json',
            'data_prefix': {'img': ''},
            'pipeline': [],
        }
    )
    instances = built.get_data_info(0)['instances']
    assert [one['bbox_label'] for one in instances] == [0, 0, 0]
    assert [one['ignore_flag'] for one in instances] == [0, 0, 1]


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
        assert (mine.masks.doubt == other.masks.doubt).all()


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


@pytest.mark.parametrize('is_nested', [False, True])
def test_a_pipeline_that_loads_no_run_length_masks_is_refused_with_the_remedy(folder, is_nested):
    load = dict(type='mmdet.LoadAnnotations', with_bbox=True, with_mask=True, poly2mask=False)
    if is_nested:
        load = dict(type='RandomChoice', transforms=[[load]])
    with pytest.raises(ValueError, match='poly2mask=True, got LoadAnnotations.*poly2mask=False'):
        DATASETS.build(dataset_config(folder, [dict(type='LoadImageFromFile'), load]))


def test_stock_loading_with_bitmaps_or_boxes_alone_finds_the_objects(folder):
    for options in (dict(with_mask=True, poly2mask=True), dict(poly2mask=False)):
        load = dict(type='mmdet.LoadAnnotations', with_bbox=True, **options)
        dataset = DATASETS.build(dataset_config(folder, [dict(type='LoadImageFromFile'), load]))
        assert [len(one['gt_bboxes']) for one in dataset] == [2, 1, 3, 0]
        assert not any(one['gt_ignore_flags'].any() for one in dataset)
