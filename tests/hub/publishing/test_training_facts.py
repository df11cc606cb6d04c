from __future__ import annotations

import pytest

from cuts3d_mm.configs import load_config
from cuts3d_mm.hub.publishing import describe_training

CUTS3D = 'cuts3d_cascade-mask-rcnn_r50_fpn_8xb2-amp-'
PSEUDO = 'Trained on pseudo-labels (`PseudoLabelDataset`): masks that a program has found.'
DINO = 'https://dl.fbaipublicfiles.com/dino/dino_resnet50_pretrain/dino_resnet50_pretrain.pth'


def facts(name, options=(), **meta):
    return describe_training(load_config(name, list(options)).to_dict(), meta)


def test_initial_round_names_labels_iterations_and_first_weights():
    assert facts(f'{CUTS3D}160k_imagenet', iter=160000) == [
        PSEUDO,
        '160,000 iterations.',
        f'Its backbone started from `{DINO}`.',
    ]


def test_only_rounds_that_were_reached_are_named():
    rounds = facts(f'{CUTS3D}400k_rounds', iter=300000)[2]
    assert rounds.startswith('After iteration 160,000, 240,000 it labelled its images itself')
    assert not any('labelled' in fact for fact in facts(f'{CUTS3D}400k_rounds', iter=160000))


def test_fine_tuning_on_annotations_is_no_training_on_pseudo_labels():
    options = ['load_from=/home/me/zero_shot.pth']
    found = facts('cutler_cascade-mask-rcnn_r50_fpn_8xb2_coco-semi', options, iter=9000)
    assert found[0] == 'Trained on annotations that `CocoDataset` read.'
    assert found[-1] == 'It started from the weights of another detector.'
    assert '/home' not in ' '.join(found)


@pytest.mark.parametrize('model', [None, {}, {'backbone': {'init_cfg': None}}])
def test_what_is_not_in_the_files_is_not_described(model):
    assert describe_training({'model': model}, {}) == []


def test_local_folder_of_the_first_weights_is_not_named():
    config = {'model': {'backbone': {'init_cfg': {'checkpoint': '/home/me/mine.pth'}}}}
    assert describe_training(config, {}) == ['Its backbone started from `mine.pth`.']


def test_every_joined_data_set_is_named():
    parts = [{'type': 'CocoDataset'}, {'type': 'cuts3d_mm.PseudoLabelDataset'}]
    config = {'train_dataloader': {'dataset': {'type': 'ConcatDataset', 'datasets': parts}}}
    expected = 'Trained on annotations that `CocoDataset` and `PseudoLabelDataset` read.'
    assert describe_training(config, {}) == [expected]


def test_facts_of_a_release_are_those_that_it_records():
    assert describe_training({'load_from': 'x.pth'}, {'training': [PSEUDO]}) == [PSEUDO]
