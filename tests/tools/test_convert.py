from __future__ import annotations

import json

import pytest
import torch
from helpers.drawn import write_labelled_images
from safetensors.torch import load_file

from cuts3d_mm.configs import load_config
from cuts3d_mm.engine.runner import build_detector
from cuts3d_mm.labels.store import read_store

CASCADE = 'cuts3d_cascade-mask-rcnn_r50_fpn_8xb2-amp-160k_imagenet.py'


@pytest.mark.slow
def test_detectors_go_to_detectron2_and_back(cuts3d, tmp_path):
    ours = build_detector(load_config(CASCADE, [])).state_dict()
    torch.save({'state_dict': ours, 'meta': {}}, tmp_path / 'ours.pth')
    out = cuts3d.done(
        'convert', 'detectron2', '--reverse', tmp_path / 'ours.pth', tmp_path / 'd2.pth'
    )
    theirs = torch.load(tmp_path / 'd2.pth', weights_only=True)['model']
    assert torch.equal(
        theirs['backbone.bottom_up.stem.conv1.weight'], ours['backbone.conv1.weight']
    )
    code, out, err = cuts3d(
        'convert', 'detectron2', tmp_path / 'd2.pth', tmp_path / 'back.safetensors'
    )
    assert code == 0 and CASCADE in out, err
    back = load_file(tmp_path / 'back.safetensors')
    assert all(torch.equal(back[name], value) for name, value in ours.items())


def test_weights_of_another_size_are_refused_before_anything_is_written(cuts3d, tmp_path):
    weights = {'roi_heads.box_head.0.fc1.weight': torch.zeros(1024, 49)}
    torch.save({'model': weights}, tmp_path / 'd2.pth')
    code, _, err = cuts3d('convert', 'detectron2', tmp_path / 'd2.pth', tmp_path / 'out.pth')
    assert code == 2 and 'must fit the network' in err and 'missing' in err
    assert not (tmp_path / 'out.pth').exists()


def test_backbones_are_converted(cuts3d, tmp_path):
    torch.save({'teacher': {'module.norm.weight': torch.ones(3)}}, tmp_path / 'none.pth')
    code, _, err = cuts3d('convert', 'dino', tmp_path / 'none.pth', tmp_path / 'out.pth')
    assert code == 2 and 'must hold a ViT or a ResNet' in err
    weights = {'patch_embed.proj.weight': torch.ones(3), 'norm.weight': torch.ones(3)}
    torch.save({'teacher': weights}, tmp_path / 'vit.pth')
    code, out, err = cuts3d('convert', 'dino', tmp_path / 'vit.pth', tmp_path / 'out.pth')
    assert code == 0 and '2 weights' in out, err
    found = torch.load(tmp_path / 'out.pth', weights_only=True)['state_dict']
    assert found.keys() == {'patch_embed.projection.weight', 'ln1.weight'}


def test_labels_go_to_json_and_back(cuts3d, tmp_path):
    write_labelled_images(tmp_path)
    code, out, err = cuts3d('convert', 'labels', tmp_path / 'labels', tmp_path / 'labels.json')
    assert code == 0 and '4 images' in out, err
    code, out, err = cuts3d('convert', 'labels', tmp_path / 'labels.json', tmp_path / 'back')
    assert code == 0 and '4 images' in out, err
    labelled = list(read_store(tmp_path / 'labels'))[:4]
    assert list(read_store(tmp_path / 'back')) == labelled


def test_files_of_cutler_become_a_store_in_order_of_names_with_sizes_corrected(cuts3d, tmp_path):
    write_labelled_images(tmp_path)
    cuts3d('convert', 'labels', tmp_path / 'labels', tmp_path / 'labels.json')
    dataset = json.loads((tmp_path / 'labels.json').read_text())
    for image in dataset['images']:  # as CutLER releases them
        image['width'], image['height'] = image['height'], image['width']
    dataset['images'].reverse()
    (tmp_path / 'cutler.json').write_text(json.dumps(dataset))
    cuts3d.done('convert', 'labels', tmp_path / 'cutler.json', tmp_path / 'store')
    found = list(read_store(tmp_path / 'store'))
    assert [record.name for record in found] == ['000.png', '001.png', '002.png', '003.png']
    assert all(record.image_hw == (60, 90) for record in found if record.instances)
