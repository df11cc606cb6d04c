from __future__ import annotations

import pickle

import pytest
import torch
from helpers.detectron2_inference import Detectron2
from mmdet.models.backbones import ResNet
from mmdet.structures import DetDataSample

from cuts3d_mm.configs import load_config
from cuts3d_mm.engine.runner import build_detector
from cuts3d_mm.weights import read_state
from cuts3d_mm.weights.checkpoints import check_weights_fit
from cuts3d_mm.weights.converters import (
    architecture_of,
    convert_backbone,
    from_detectron2,
    to_detectron2,
)

CONFIGS = {
    'cascade': 'cuts3d_cascade-mask-rcnn_r50_fpn_8xb2-amp-160k_imagenet.py',
    'standard': 'cutler_mask-rcnn_r50_fpn_8xb2-160k_imagenet.py',
}
ORIGINAL_HW, RESIZED_HW = (150, 230), (225, 345)


def norm(name, channels, shapes):
    for part in ('weight', 'bias', 'running_mean', 'running_var'):
        shapes[f'{name}.norm.{part}'] = (channels,)
    shapes[f'{name}.norm.num_batches_tracked'] = ()


def detectron2_shapes(architecture):
    """Names and shapes of CutLER's checkpoints."""
    shapes = {}

    def conv(name, out, into, size, with_norm=True):
        shapes[f'{name}.weight'] = (out, into, size, size)
        norm(name, out, shapes) if with_norm else shapes.update({f'{name}.bias': (out,)})

    def linear(name, out, into):
        shapes.update({f'{name}.weight': (out, into), f'{name}.bias': (out,)})

    bottom_up, into = 'backbone.bottom_up', 64
    conv(f'{bottom_up}.stem.conv1', 64, 3, 7)
    for stage, (count, width) in enumerate(((3, 64), (4, 128), (6, 256), (3, 512)), start=2):
        for index in range(count):
            block = f'{bottom_up}.res{stage}.{index}'
            if index == 0:
                conv(f'{block}.shortcut', width * 4, into, 1)
            conv(f'{block}.conv1', width, into, 1)
            conv(f'{block}.conv2', width, width, 3)
            conv(f'{block}.conv3', width * 4, width, 1)
            into = width * 4
        conv(f'backbone.fpn_lateral{stage}', 256, into, 1)
        conv(f'backbone.fpn_output{stage}', 256, 256, 3)
    rpn = 'proposal_generator.rpn_head'
    conv(f'{rpn}.conv', 256, 256, 3, with_norm=False)
    conv(f'{rpn}.objectness_logits', 3, 256, 1, with_norm=False)
    conv(f'{rpn}.anchor_deltas', 12, 256, 1, with_norm=False)
    for stage in ('.0', '.1', '.2') if architecture == 'cascade' else ('',):
        linear(f'roi_heads.box_head{stage}.fc1', 1024, 256 * 49)
        linear(f'roi_heads.box_head{stage}.fc2', 1024, 1024)
        linear(f'roi_heads.box_predictor{stage}.cls_score', 2, 1024)
        linear(f'roi_heads.box_predictor{stage}.bbox_pred', 4, 1024)
    for index in (1, 2, 3, 4):
        conv(f'roi_heads.mask_head.mask_fcn{index}', 256, 256, 3, with_norm=False)
    shapes['roi_heads.mask_head.deconv.weight'] = (256, 256, 2, 2)
    shapes['roi_heads.mask_head.deconv.bias'] = (256,)
    conv('roi_heads.mask_head.predictor', 1, 256, 1, with_norm=False)
    return shapes


def random_value(name, shape, generator):
    """Weights that keep activations near 1 and tell boxes, scores and masks apart."""
    if name.endswith('num_batches_tracked'):
        return torch.tensor(7)
    value = torch.randn(shape, generator=generator)
    if name.endswith(('running_var', 'norm.weight')):
        return 1 + 0.2 * value.clamp(-2, 2)
    if len(shape) < 2:
        return 0.1 * value
    fan_in = value[0].numel() if 'deconv' not in name else shape[0]
    gain = {
        'conv3': 0.3,
        'shortcut': 1.0,
        'anchor_deltas': 0.1,
        'bbox_pred': 0.1,
        'cls_score': 0.4,
    }
    kind = name.split('.')[-2]
    return value * gain.get(kind, 1.4) / fan_in**0.5


def random_checkpoint(architecture, seed=0):
    generator = torch.Generator().manual_seed(seed)
    shapes = detectron2_shapes(architecture)
    return {name: random_value(name, shape, generator) for name, shape in shapes.items()}


def detector_with(architecture, weights):
    model = build_detector(load_config(CONFIGS[architecture], []))
    check_weights_fit(weights, model.state_dict())
    model.load_state_dict(weights)
    return model.eval()


@pytest.mark.slow
@pytest.mark.parametrize('architecture', CONFIGS)
def test_every_weight_has_a_place_and_goes_back_bit_identical(architecture):
    theirs = random_checkpoint(architecture)
    ours = from_detectron2(theirs)
    assert ours.left_out == () and len(ours.weights) == len(theirs)
    check_weights_fit(
        ours.weights, build_detector(load_config(CONFIGS[architecture], [])).state_dict()
    )
    back = to_detectron2(ours.weights).weights
    assert back.keys() == theirs.keys()
    assert all(torch.equal(back[name], value) for name, value in theirs.items())
    assert architecture_of(theirs) == architecture_of(ours.weights) == architecture


@pytest.mark.slow
@pytest.mark.parametrize('architecture', CONFIGS)
def test_boxes_scores_and_masks_equal_detectron2s(architecture):
    theirs = random_checkpoint(architecture)
    image = torch.randint(0, 256, (3, *RESIZED_HW), generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        boxes, scores, masks = Detectron2(theirs)(image.float(), ORIGINAL_HW)
        sample = DetDataSample(
            metainfo=dict(ori_shape=ORIGINAL_HW, img_shape=RESIZED_HW, scale_factor=(1.5, 1.5))
        )
        bgr = image.flip(0).to(torch.uint8)
        model = detector_with(architecture, from_detectron2(theirs).weights)
        found = model.test_step({'inputs': [bgr], 'data_samples': [sample]})[0].pred_instances
    assert len(boxes) == len(found) > 20
    assert scores.max() - scores.min() > 0.05  # not a constant answer
    # Scores that are equal but for rounding may come in either order.
    found = found[torch.cdist(boxes, found.bboxes).argmin(dim=1)]
    assert len({tuple(box) for box in found.bboxes.tolist()}) == len(boxes)
    torch.testing.assert_close(found.scores, scores, atol=1e-4, rtol=0)
    torch.testing.assert_close(found.bboxes, boxes, atol=1e-4, rtol=0)
    share = masks.float().mean()
    assert 0.001 < share < 0.5
    assert (found.masks != masks).float().mean() < 1e-4


def test_constants_of_older_checkpoints_are_left_out_by_name():
    theirs = random_checkpoint('standard')
    theirs['pixel_mean'] = torch.zeros(3, 1, 1)
    theirs['proposal_generator.anchor_generator.cell_anchors.0'] = torch.zeros(3, 4)
    left_out = from_detectron2(theirs).left_out
    assert left_out == ('pixel_mean', 'proposal_generator.anchor_generator.cell_anchors.0')


def test_a_weight_without_a_place_is_named():
    theirs = {**random_checkpoint('cascade'), 'sem_seg_head.predictor.weight': torch.zeros(1)}
    with pytest.raises(ValueError, match='without a place: sem_seg_head.predictor.weight'):
        from_detectron2(theirs)


def test_other_networks_are_refused():
    with pytest.raises(ValueError, match='must hold a Mask R-CNN or Cascade Mask R-CNN'):
        from_detectron2({'blocks.0.weight': torch.zeros(1)})


DINO = {
    'cls_token': (1, 1, 8),
    'pos_embed': (1, 5, 8),
    'patch_embed.proj.weight': (8, 3, 4, 4),
    'blocks.0.norm1.weight': (8,),
    'blocks.0.attn.qkv.weight': (24, 8),
    'blocks.0.attn.proj.bias': (8,),
    'blocks.0.norm2.bias': (8,),
    'blocks.0.mlp.fc1.weight': (16, 8),
    'blocks.0.mlp.fc2.weight': (8, 16),
    'norm.weight': (8,),
}
OURS = {
    'cls_token': (1, 1, 8),
    'pos_embed': (1, 5, 8),
    'patch_embed.projection.weight': (8, 3, 4, 4),
    'layers.0.ln1.weight': (8,),
    'layers.0.attn.qkv.weight': (24, 8),
    'layers.0.attn.proj.bias': (8,),
    'layers.0.ln2.bias': (8,),
    'layers.0.ffn.layers.0.0.weight': (16, 8),
    'layers.0.ffn.layers.1.weight': (8, 16),
    'ln1.weight': (8,),
}


def tensors(shapes):
    return {name: torch.zeros(shape) for name, shape in shapes.items()}


def names_of(content):
    return convert_backbone(content).weights.keys()


def test_dino_and_timm_names_are_mapped():
    assert names_of(tensors(DINO)) == OURS.keys()


def test_mmpretrain_names_stay():
    assert names_of(tensors(OURS)) == OURS.keys()


@pytest.mark.parametrize('prefix', ['module.', 'backbone.', 'module.backbone.'])
def test_training_wrappers_are_opened(prefix):
    wrapped = {f'{prefix}{name}': tensor for name, tensor in tensors(DINO).items()}
    assert names_of(wrapped) == names_of({'teacher': wrapped}) == OURS.keys()


@pytest.mark.parametrize('trained', ['module.encoder_q.', 'module.base_encoder.', 'encoder_q.'])
def test_of_a_training_of_moco_the_network_that_gradients_trained_is_taken(trained):
    weights = {f'{trained}{name}': value for name, value in tensors(DINO).items()}
    copy = {f'module.encoder_k.{name}': value + 1 for name, value in tensors(DINO).items()}
    state = {**copy, **weights, 'module.queue': torch.zeros(4, 8)}
    found = convert_backbone({'arch': 'vit', 'state_dict': state}).weights
    assert found.keys() == OURS.keys() and not any(value.any() for value in found.values())


def test_layer_scale_of_dinov2_is_mapped_and_its_mask_token_left_out():
    dinov2 = tensors({**DINO, 'blocks.0.ls1.gamma': (8,), 'blocks.0.ls2.gamma': (8,)})
    dinov2['mask_token'] = torch.zeros(1, 8)
    found = convert_backbone(dinov2)
    gammas = {'layers.0.attn.gamma1.weight', 'layers.0.ffn.gamma2.weight'}
    assert found.weights.keys() == OURS.keys() | gammas and found.left_out == ('mask_token',)


def test_unknown_missing_and_misshapen_weights_are_named():
    weights = tensors(DINO)
    with pytest.raises(ValueError, match='without a place: blocks.0.stray'):
        convert_backbone({**weights, 'blocks.0.stray': torch.zeros(1)})
    del weights['cls_token']
    weights['norm.weight'] = torch.zeros(9)
    with pytest.raises(ValueError) as error:
        check_weights_fit(convert_backbone(weights).weights, tensors(OURS))
    assert 'missing: cls_token' in str(error.value)
    assert 'of another shape: ln1.weight (9,), needed (8,)' in str(error.value)


def detectron2_names(torchvision):
    """The names of a ResNet in detectron2, restated one by one."""
    renamed = {}
    for name, value in torchvision.items():
        stage, *rest = name.split('.')
        if stage.startswith('layer'):
            block, part, *leaf = rest
            if part == 'downsample':
                part, leaf = 'shortcut', leaf[1:] if leaf[0] == '0' else ['norm', *leaf[1:]]
            elif part.startswith('bn'):
                part, leaf = f'conv{part[2:]}', ['norm', *leaf]
            stage = f'res{int(stage[5:]) + 1}'
            renamed['.'.join([stage, block, part, *leaf])] = value
        else:
            part = 'conv1' if stage == 'conv1' else 'conv1.norm'
            renamed['.'.join(['stem', part, *rest])] = value
    return renamed


@pytest.mark.slow
@pytest.mark.parametrize('layout', ['torchvision', 'timm', 'dino', 'detectron2'])
def test_resnet_of_any_layout_gives_the_same_network(tmp_path, layout):
    torch.manual_seed(0)
    network = ResNet(50)
    weights = network.state_dict()
    path = tmp_path / ('w.pkl' if layout == 'detectron2' else 'w.pth')
    if layout == 'detectron2':
        arrays = {name: value.numpy() for name, value in detectron2_names(weights).items()}
        path.write_bytes(pickle.dumps({'model': arrays, '__author__': 'someone'}, protocol=2))
    else:
        head = {'timm': {'fc.weight': torch.zeros(2)}}.get(layout, {})
        prefix = 'module.backbone.' if layout == 'dino' else ''
        torch.save({f'{prefix}{n}': v for n, v in {**weights, **head}.items()}, path)
    found = convert_backbone(read_state(str(path)).content).weights
    check_weights_fit(found, weights)
    assert all(torch.equal(found[name], value) for name, value in weights.items())


def test_other_networks_are_not_taken_for_dino():
    with pytest.raises(ValueError, match='must hold a ViT or a ResNet'):
        convert_backbone({'features.0.weight': torch.zeros(1)})
