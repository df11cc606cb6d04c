from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional

mmpretrain = pytest.importorskip('mmpretrain.models')

from cuts3d_mm.generation.extractors.vit_keys import (  # noqa: E402
    IMAGENET_MEAN,
    IMAGENET_STD,
    ViTKeyFeatures,
)
from cuts3d_mm.hub.converters.dino import convert_backbone  # noqa: E402

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
    kept = {}
    hook = network.blocks[-1].attn.qkv.register_forward_hook(
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


def test_half_precision_stays_close(images):
    torch.manual_seed(0)
    exact = ViTKeyFeatures(TINY)
    half = ViTKeyFeatures(TINY, half=True)
    half.network.load_state_dict(exact.network.state_dict())
    a, b = exact(images)[0].ravel(), half(images)[0].ravel()
    assert a @ b / np.linalg.norm(a) / np.linalg.norm(b) > 0.999


def test_keys_equal_timm_at_224(rng, tmp_path):
    network = timm_vit()
    torch.save(network.state_dict(), tmp_path / 'w.pth')
    images = [rng.integers(0, 256, (224, 224, 3), dtype=np.uint8)]
    found = ViTKeyFeatures(SMALL, str(tmp_path / 'w.pth'))(images)[0]
    assert np.abs(found.reshape(1, 784, 384) - timm_keys(network, images)).max() < 1e-4


@pytest.mark.slow
def test_keys_equal_timm_at_480_given_its_position_embedding(rng):
    """Off the training size the two libraries interpolate positions differently.

    Both are bicubic, but timm antialiases, for which PyTorch uses another cubic kernel
    (a = -0.5 instead of -0.75). With the embedding that mmpretrain interpolates, timm's keys
    are the same; with its own they differ by that kernel only.
    """
    network = timm_vit(dynamic_img_size=True)
    extractor = ViTKeyFeatures(SMALL)
    weights = convert_backbone(network.state_dict()).weights
    extractor.network.load_state_dict(weights)
    images = [rng.integers(0, 256, (480, 480, 3), dtype=np.uint8)]
    found = extractor(images)[0].reshape(1, 3600, 384)
    own = timm_keys(network, images)

    grid = network.pos_embed[:, 1:].reshape(1, 28, 28, 384).permute(0, 3, 1, 2)
    resized = functional.interpolate(grid, (60, 60), mode='bicubic', align_corners=False)
    network.pos_embed = torch.nn.Parameter(
        torch.cat([network.pos_embed[:, :1], resized.flatten(2).transpose(1, 2)], dim=1)
    )
    network.patch_embed.grid_size = (60, 60)
    assert np.abs(found - timm_keys(network, images)).max() < 1e-4
    assert np.abs(found - own).mean() < 0.05 * np.abs(own).mean()
