from __future__ import annotations

import numpy as np
import pytest
import torch
from reference import dino_positions

mmpretrain = pytest.importorskip('mmpretrain.models')

from cuts3d_mm.labellers.features import vit  # noqa: E402
from cuts3d_mm.labellers.features.vit import (  # noqa: E402
    IMAGENET_MEAN,
    IMAGENET_STD,
    ViTKeyFeatures,
    interpolate_positions,
)
from cuts3d_mm.weights.converters import convert_backbone  # noqa: E402

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
    features = ViTKeyFeatures(TINY)(images)
    assert [f.shape for f in features] == [(4, 6, 24)] * 2
    assert features[0].dtype == np.float32 and not np.allclose(*features)


def test_sides_that_are_no_multiple_of_the_patch_are_padded(rng):
    image = rng.integers(0, 256, (33, 47, 3), dtype=np.uint8)
    assert ViTKeyFeatures(TINY)([image])[0].shape == (5, 6, 24)


def test_a_gpu_computes_in_full_float32(images):
    extractor, allowed = ViTKeyFeatures(TINY), []
    extractor.network.patch_embed.register_forward_pre_hook(
        lambda *_: allowed.append(torch.backends.cudnn.allow_tf32)
    )
    extractor(images)
    assert allowed == [False] and torch.backends.cudnn.allow_tf32


def test_half_precision_stays_close(images):
    torch.manual_seed(0)
    exact = ViTKeyFeatures(TINY)
    half = ViTKeyFeatures(TINY, half=True)
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
    network = ViTKeyFeatures({**TINY, 'img_size': (32, 48)}, position_offset=0.0).network
    weights = {k: v for k, v in extractor.network.state_dict().items() if k != 'pos_embed'}
    network.load_state_dict(weights, strict=False)
    network.pos_embed.data[:, :1] = extractor.network.pos_embed[:, :1]
    network.pos_embed.data[:, 1:] = torch.from_numpy(expected).float()
    assert np.abs(found - own_keys(network, images[:1])).max() < 1e-4


def test_positions_are_interpolated_once_per_size(images, rng, monkeypatch):
    sizes = []

    def count(positions, trained_hw, grid_hw, offset):
        sizes.append(grid_hw)
        return interpolate_positions(positions, trained_hw, grid_hw, offset)

    monkeypatch.setattr(vit, 'interpolate_positions', count)
    extractor = ViTKeyFeatures(TINY)
    first, again = extractor(images), extractor(images)
    assert (first[0] == again[0]).all()
    extractor([rng.integers(0, 256, (40, 48, 3), dtype=np.uint8)])
    assert sizes == [(4, 6), (5, 6)]


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
