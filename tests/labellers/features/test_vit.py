from __future__ import annotations

import sys

import numpy as np
import pytest
import torch
from helpers import tiny_networks  # noqa: F401
from helpers.drawn import photo
from helpers.hostile_models import kinds
from helpers.oracles import dino_positions
from helpers.servers import Repository
from safetensors.torch import save, save_file
from timm.models import eva

from cuts3d_mm.labellers.features import vit
from cuts3d_mm.labellers.features.vit import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    TimmFeatures,
    ViTKeyFeatures,
    interpolate_positions,
    locate_weights,
)
from cuts3d_mm.testing import check_feature_source
from cuts3d_mm.weights.converters import convert_backbone

mmpretrain = pytest.importorskip('mmpretrain.models')
TINY = {
    'arch': {'embed_dims': 24, 'num_layers': 3, 'num_heads': 2, 'feedforward_channels': 48},
    'patch_size': 8,
    'img_size': 32,
}
SMALL = {'arch': 'deit-small', 'patch_size': 8, 'img_size': 224}


def timm_vit(**options):
    timm = pytest.importorskip('timm')
    torch.manual_seed(0)
    return timm.create_model('vit_small_patch8_224', num_classes=0, **options).eval()


def timm_keys(network, images):
    return keys_of(network, network.blocks[-1], images)


def own_keys(network, images):
    grid = images[0].shape[0] // 8, images[0].shape[1] // 8
    network.layers[-1].attn.qkv._forward_hooks.clear()
    return keys_of(network, network.layers[-1], images).reshape(*grid, -1)


def keys_of(network, block, images):
    kept = {}
    hook = block.attn.qkv.register_forward_hook(
        lambda module, inputs, output: kept.update(qkv=output)
    )
    mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in (IMAGENET_MEAN, IMAGENET_STD))
    batch = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).float() / 255
    with torch.no_grad():
        network((batch - mean) / std)
    hook.remove()
    return kept['qkv'].chunk(3, dim=-1)[1][:, 1:].numpy()


@pytest.fixture
def images(rng):
    return [rng.integers(0, 256, (32, 48, 3), dtype=np.uint8) for _ in range(2)]


def test_keys_lie_on_the_patch_grid(images):
    source = ViTKeyFeatures(TINY)
    check_feature_source(source, image_hw=(32, 48))
    assert [f.shape for f in source(images)] == [(4, 6, 24)] * 2


def test_sides_that_are_no_multiple_of_the_patch_are_padded(rng):
    image = rng.integers(0, 256, (33, 47, 3), dtype=np.uint8)
    assert ViTKeyFeatures(TINY)([image])[0].shape == (5, 6, 24)


SOURCES = {
    'mmpretrain': lambda **options: ViTKeyFeatures(TINY, **options),
    'timm': lambda **options: TimmFeatures('test_vit', block=-1, checkpoint=None, **options),
}


@pytest.fixture(params=SOURCES)
def source(request):
    return SOURCES[request.param]


def test_a_gpu_computes_in_full_float32(images, source):
    extractor, allowed = source(), []
    extractor.network.patch_embed.register_forward_pre_hook(
        lambda *_: allowed.append(torch.backends.cudnn.allow_tf32)
    )
    extractor(images)
    assert allowed == [False] and torch.backends.cudnn.allow_tf32


def test_half_precision_stays_close(images, source):
    exact, half = source(), source(half=True)
    half.network.load_state_dict(exact.network.state_dict())
    a, b = exact(images)[0].ravel(), half(images)[0].ravel()
    assert a @ b / np.linalg.norm(a) / np.linalg.norm(b) > 0.999


@pytest.mark.slow
def test_keys_equal_timm_at_224(rng, tmp_path):
    network = timm_vit()
    torch.save(network.state_dict(), tmp_path / 'w.pth')
    images = [rng.integers(0, 256, (224, 224, 3), dtype=np.uint8)]
    found = ViTKeyFeatures(SMALL, str(tmp_path / 'w.pth'))(images)[0]
    assert np.abs(found.reshape(1, 784, 384) - timm_keys(network, images)).max() < 1e-4


def test_positions_of_another_size_are_those_of_dino(images):
    """The network run by hand, with positions interpolated one by one, gives the same keys."""
    torch.manual_seed(0)
    extractor = ViTKeyFeatures(TINY)
    torch.nn.init.normal_(extractor.network.pos_embed)
    found = extractor(images)[0]
    grid = extractor.network.pos_embed[0, 1:].detach().double().numpy().reshape(4, 4, 24)
    expected = dino_positions(grid, (4, 6), 0.1).reshape(1, 24, 24)
    network = vit._build_vit({**TINY, 'img_size': (32, 48)})
    network.eval()
    weights = {k: v for k, v in extractor.network.state_dict().items() if k != 'pos_embed'}
    network.load_state_dict(weights, strict=False)
    network.pos_embed.data[:, :1] = extractor.network.pos_embed[:, :1]
    network.pos_embed.data[:, 1:] = torch.from_numpy(expected).float()
    assert np.abs(found - own_keys(network, images[:1])).max() < 1e-4


def test_positions_are_interpolated_once_per_size(rng, monkeypatch, source):
    grids = []

    def noted(positions, trained_hw, grid_hw, offset):
        grids.append(grid_hw)
        return interpolate_positions(positions, trained_hw, grid_hw, offset)

    monkeypatch.setattr(vit, 'interpolate_positions', noted)
    extractor, image = source(), photo(rng, (64, 48))
    first, again, _ = extractor([image]), extractor([image]), extractor([photo(rng, (80, 48))])
    assert (first[0] == again[0]).all() and len(grids) == 2 and grids[0] != grids[1]


@pytest.mark.slow
def test_keys_equal_timm_at_480_with_the_positions_of_dino(rng):
    network = timm_vit(dynamic_img_size=True, depth=3)
    layers = {'embed_dims': 384, 'num_layers': 3, 'num_heads': 6, 'feedforward_channels': 1536}
    extractor = ViTKeyFeatures({**SMALL, 'arch': layers})
    extractor.network.load_state_dict(convert_backbone(network.state_dict()).weights)
    images = [rng.integers(0, 256, (480, 480, 3), dtype=np.uint8)]
    found = extractor(images)[0].reshape(1, 3600, 384)
    grid = network.pos_embed[0, 1:].detach().double().numpy().reshape(28, 28, 384)
    resized = torch.from_numpy(dino_positions(grid, (60, 60), 0.1)).float().reshape(1, 3600, 384)
    network.pos_embed = torch.nn.Parameter(torch.cat([network.pos_embed[:, :1], resized], dim=1))
    network.patch_embed.grid_size = (60, 60)
    assert np.abs(found - timm_keys(network, images)).max() < 1e-4


timm = pytest.importorskip('timm')
# timm's tiny ViT, as mmpretrain describes it.
TEST_VIT = {
    'arch': {'embed_dims': 64, 'num_layers': 6, 'num_heads': 2, 'feedforward_channels': 192},
    'patch_size': 16,
    'img_size': 160,
}
CNNS = ('test_resnet', 'test_efficientnet', 'test_convnext', 'test_byobnet')


@pytest.fixture
def timm_images(rng):
    return [photo(rng, (96, 144)) for _ in range(3)]


def seeded(model, **options):
    """A network of timm with random weights, biases and norms too."""
    torch.manual_seed(0)
    network = timm.create_model(model, **options).eval()
    for parameter in network.parameters():
        parameter.data += 0.2 * torch.randn_like(parameter)
    return network


def saved(network, path):
    save_file({k: v.contiguous() for k, v in network.state_dict().items()}, path)
    return str(path)


def imagenet(model, **options):
    return TimmFeatures(model, mean=IMAGENET_MEAN, std=IMAGENET_STD, **options)


def as_batch(timm_images, mean=IMAGENET_MEAN, std=IMAGENET_STD):
    batch = torch.from_numpy(np.stack(timm_images)).permute(0, 3, 1, 2).float() / 255
    return (batch - torch.tensor(mean).view(1, 3, 1, 1)) / torch.tensor(std).view(1, 3, 1, 1)


def of_length_one(features):
    return features / np.linalg.norm(features, axis=-1, keepdims=True)


@pytest.mark.parametrize('image_hw', [(160, 160), (96, 144), (250, 330)])
def test_keys_equal_those_of_vit_key_features(rng, tmp_path, image_hw):
    """The same weights give the same keys, on the trained grid, another one and a padded one."""
    path = saved(seeded('test_vit', num_classes=0), tmp_path / 'w.safetensors')
    image = photo(rng, image_hw)
    (found,) = imagenet('test_vit', block=-1, checkpoint=path)([image])
    (expected,) = ViTKeyFeatures(TEST_VIT, path)([image])
    assert found.shape == (-(-image_hw[0] // 16), -(-image_hw[1] // 16), 64)
    assert np.abs(found - of_length_one(expected)).max() < 1e-5


@pytest.mark.parametrize('block', [0, 1, -1])
def test_keys_of_rotary_vits_are_those_before_the_rotation(
    timm_images, tmp_path, monkeypatch, block
):
    """Timm's own run of the whole network, watched where it rotates, gives the same keys."""
    network = seeded('tiny_rotary_vit')
    rotated, rotate = [], eva.apply_rot_embed_cat

    def watch(tokens, *args, **kwargs):
        rotated.append(tokens)
        return rotate(tokens, *args, **kwargs)

    path = saved(network, tmp_path / 'w.safetensors')
    found = TimmFeatures('tiny_rotary_vit', block=block, checkpoint=path)(timm_images)
    monkeypatch.setattr(eva, 'apply_rot_embed_cat', watch)
    with torch.no_grad():
        network(as_batch(timm_images, (0.5,) * 3, (0.5,) * 3))
    keys = rotated[1::2][block]  # queries and keys in turn; (B, heads, h * w, C)
    assert keys.shape == (3, 3, 54, 16)
    expected = keys.transpose(1, 2).reshape(3, 6, 9, 48).numpy()
    assert np.abs(np.stack(found) - of_length_one(expected)).max() < 1e-5


@pytest.mark.parametrize('model', CNNS)
@pytest.mark.parametrize('stage', [-1, 2])
def test_stages_are_those_of_timm_at_an_eighth_and_centred(timm_images, tmp_path, model, stage):
    network = seeded(model, output_stride=8)
    path = saved(network, tmp_path / 'w.safetensors')
    found = imagenet(model, stage=stage, checkpoint=path)(timm_images)
    expected = reference_stage(network, model, timm_images, stage)
    centred = expected - expected.mean(axis=(1, 2), keepdims=True)
    assert found[0].shape == (12, 18, expected.shape[-1])
    assert np.abs(np.stack(found) - of_length_one(centred)).max() < 1e-4


def reference_stage(network, model, timm_images, stage):
    """What timm's `features_only` gives with the same weights, (B, h, w, C)."""
    features = timm.create_model(model, features_only=True, output_stride=8).eval()
    names = {name.replace('.', '_'): value for name, value in network.state_dict().items()}
    own = {name: names[name.replace('.', '_')] for name in features.state_dict()}
    features.load_state_dict(own)
    with torch.no_grad():
        return features(as_batch(timm_images))[stage].permute(0, 2, 3, 1).numpy()


@pytest.mark.parametrize(
    'where', [{'model': 'test_vit', 'block': -1}, {'model': 'test_resnet', 'stage': -1}]
)
def test_features_of_timm_are_the_same_for_any_batch_and_have_length_one(
    timm_images, tmp_path, where
):
    path = saved(seeded(where['model']), tmp_path / 'w.safetensors')
    first, second = (TimmFeatures(**where, checkpoint=path) for _ in range(2))
    check_feature_source(first, tolerance=1e-5)
    found, again = first(timm_images), second(timm_images)
    assert [a.tobytes() for a in found] == [b.tobytes() for b in again]
    assert np.allclose(np.linalg.norm(np.stack(found), axis=-1), 1, atol=1e-5)
    assert not np.allclose(found[0], found[1], atol=0.01)


@pytest.mark.parametrize(
    'where', [{'model': 'tiny_rotary_vit', 'block': -1}, {'model': 'test_resnet', 'stage': 2}]
)
def test_half_precision_of_rotary_vits_and_cnns_stays_close(timm_images, tmp_path, where):
    path = saved(seeded(where['model']), tmp_path / 'w.safetensors')
    exact, half = (
        TimmFeatures(**where, checkpoint=path, half=h)(timm_images) for h in (False, True)
    )
    assert (np.stack(exact) * np.stack(half)).sum(axis=-1).mean() > 0.99


def test_weights_that_timm_names_come_from_the_hub_through_our_reader(
    hub, timm_images, tmp_path, monkeypatch
):
    network = seeded('test_resnet')  # with its classifier, as published
    content = save({k: v.contiguous() for k, v in network.state_dict().items()})
    repository = hub.repositories['models', 'timm/test_resnet.r160_in1k'] = Repository(False)
    repository.commit({'model.safetensors': content})
    monkeypatch.setattr(torch, 'load', None)
    monkeypatch.setattr(timm.models._builder, 'load_pretrained', None)
    found = TimmFeatures('test_resnet.r160_in1k', stage=-1)(timm_images)
    expected = TimmFeatures(
        'test_resnet.r160_in1k', stage=-1, checkpoint=saved(network, tmp_path / 'w.safetensors')
    )(timm_images)
    assert (np.stack(found) == np.stack(expected)).all()


def test_weights_lie_where_timm_says():
    dinov3 = 'vit_base_patch16_dinov3.lvd1689m'
    assert locate_weights(dinov3) == f'hf://timm/{dinov3}/model.safetensors'
    without_hub = next(
        name
        for name in timm.list_pretrained('vit_*')
        if not timm.get_pretrained_cfg(name).hf_hub_id
    )
    assert locate_weights(without_hub) == timm.get_pretrained_cfg(without_hub).url
    with pytest.raises(ValueError, match='timm must name weights for convnextv2_small'):
        locate_weights('convnextv2_small')


@pytest.mark.parametrize('kind', ['zip', 'a_weight', 'legacy'])
def test_weights_that_hold_a_payload_are_refused_and_nothing_of_them_runs(tmp_path, kind):
    marker = tmp_path / 'marker'
    kinds(marker)[kind](tmp_path / 'w.pth')
    with pytest.raises(ValueError, match='w.pth must be a whole file of weights'):
        TimmFeatures('test_resnet', stage=-1, checkpoint=str(tmp_path / 'w.pth'))
    assert not marker.exists()


def test_missing_unknown_and_misshapen_weights_are_named(tmp_path):
    weights = seeded('test_vit', num_classes=0).state_dict()
    del weights['cls_token']
    weights |= {'stray': torch.zeros(1), 'norm.weight': torch.zeros(9)}
    torch.save(weights, tmp_path / 'w.pth')
    with pytest.raises(ValueError, match='missing: cls_token; unknown: stray; of another shape'):
        TimmFeatures('test_vit', block=-1, checkpoint=str(tmp_path / 'w.pth'))


def test_weights_of_another_network_are_refused(tmp_path):
    path = saved(seeded('test_resnet'), tmp_path / 'w.safetensors')
    with pytest.raises(ValueError, match='weights'):
        TimmFeatures('tiny_rotary_vit', block=-1, checkpoint=path)


@pytest.mark.slow
def test_a_checkpoint_of_moco_gives_the_network_that_was_trained(timm_images, tmp_path):
    network = seeded('resnet18', num_classes=0)
    state = {'module.queue': torch.zeros(8, 4), 'module.queue_ptr': torch.zeros(1)}
    for name, value in network.state_dict().items():
        state |= {f'module.encoder_q.{name}': value, f'module.encoder_k.{name}': value + 1}
    state |= {f'module.encoder_q.fc.{i}.weight': torch.zeros(2, 2) for i in (0, 2)}
    torch.save({'epoch': 200, 'arch': 'resnet18', 'state_dict': state}, tmp_path / 'w.pth.tar')
    found = TimmFeatures('resnet18', stage=3, checkpoint=str(tmp_path / 'w.pth.tar'))(
        timm_images[:1]
    )
    path = saved(network, tmp_path / 'w.safetensors')
    assert (
        found[0] == TimmFeatures('resnet18', stage=3, checkpoint=path)(timm_images[:1])[0]
    ).all()
    assert found[0].shape == (12, 18, 256)


def test_names_that_timm_does_not_know_are_refused_with_those_near_to_them():
    for name in ('hf-hub:someone/network', 'local-dir:folder', 'test_*', 'resnet51'):
        with pytest.raises(ValueError, match='model must be a name that timm'):
            TimmFeatures(name, block=-1)
    with pytest.raises(ValueError, match='near to it: vit_small_patch16_dinov3.lvd1689m'):
        TimmFeatures('vit_small_patch16_dinov3.lvd1689', block=-1)


@pytest.mark.parametrize(
    ('model', 'where', 'message'),
    [
        ('test_vit', {}, 'either block .* got block=None, stage=None'),
        ('test_vit', {'block': 1, 'stage': 1}, 'either block .* got block=1, stage=1'),
        ('test_vit', {'stage': 1}, 'test_vit must take output_stride=8'),
        ('test_resnet', {'block': 1}, 'test_resnet must take dynamic_img_size=True'),
        ('test_vit', {'block': 6}, 'block must be one of the 6 of a ViT, got 6'),
        ('test_resnet', {'stage': -6}, 'stage must be one of the 5 of this network, got -6'),
        ('swin_tiny_patch4_window7_224', {'block': 0}, 'block must be one of the 0 of a ViT'),
        ('vit_base_patch16_xp_224', {'block': 0}, 'must have an attention with keys'),
    ],
)
def test_what_a_network_does_not_have_is_refused(model, where, message):
    with pytest.raises(ValueError, match=message):
        TimmFeatures(model, checkpoint=None, **where)


def test_without_timm_the_error_says_how_to_install_it(monkeypatch):
    monkeypatch.setitem(sys.modules, 'timm', None)
    with pytest.raises(ImportError, match=r"pip install 'cuts3d_mm\[timm\]'"):
        TimmFeatures('resnet50', stage=-1)


TRAINED_HW, GRID_HW = (7, 5), (12, 16)


@pytest.fixture
def positions():
    torch.manual_seed(0)
    return torch.randn(1, 2 + 35, 3)


@pytest.mark.parametrize('offset', [0.1, 0.0])
def test_positions_equal_the_formula(positions, offset):
    found = interpolate_positions(positions, TRAINED_HW, GRID_HW, offset)
    grid = positions[0, 2:].reshape(*TRAINED_HW, 3).double().numpy()
    expected = dino_positions(grid, GRID_HW, offset).reshape(-1, 3)
    assert found.shape == (1, 2 + 192, 3)
    assert np.abs(found[0, 2:].numpy() - expected).max() < 1e-5


def test_other_tokens_and_the_trained_grid_are_kept(positions):
    found = interpolate_positions(positions, TRAINED_HW, GRID_HW, 0.1)
    assert (found[:, :2] == positions[:, :2]).all()
    assert interpolate_positions(positions, TRAINED_HW, TRAINED_HW, 0.1) is positions


@pytest.mark.parametrize('side', [14, 28])
@pytest.mark.parametrize('new', [1, 13, 30, 60, 97])
def test_any_side_gets_its_own_number_of_patches(side, new):
    positions = torch.zeros(1, 1 + side * side, 1)
    assert interpolate_positions(positions, (side, side), (new, 60), 0.1).shape[1] == 1 + new * 60


def test_half_precision_stays_half(positions):
    found = interpolate_positions(positions.bfloat16(), TRAINED_HW, GRID_HW, 0.1)
    assert found.dtype == torch.bfloat16


def test_a_wrong_trained_grid_is_refused(positions):
    with pytest.raises(ValueError, match='positions must hold at least 8 x 5 patches, got 37'):
        interpolate_positions(positions, (8, 5), GRID_HW, 0.1)
