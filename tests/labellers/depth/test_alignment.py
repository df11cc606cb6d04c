"""A network that returns its input must give a map that lies on the image, whoever prepares it."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from drawn import iou
from PIL import Image
from tiny_depth_models import (
    depth_anything,
    dpt,
    dpt_beit,
    dpt_hybrid,
    marigold,
    transformers,
    zoe,
)

from cuts3d_mm.images.reading import NamedImage
from cuts3d_mm.labellers.depth.huggingface import HFDepth, MarigoldDepth

# family -> how its published checkpoint prepares an image
PUBLISHED = {
    'ZoeDepth': (zoe, {'size': {'height': 384, 'width': 512}}),
    'DPT': (dpt, {'size': {'height': 384, 'width': 384}}),
    'MiDaS, DPT-hybrid': (dpt_hybrid, {'size': {'height': 384, 'width': 384}}),
    'MiDaS, BEiT': (
        dpt_beit,
        {
            'size': {'height': 512, 'width': 512},
            'keep_aspect_ratio': True,
            'ensure_multiple_of': 32,
        },
    ),
    'Depth Anything': (
        depth_anything,
        {
            'size': {'height': 518, 'width': 518},
            'keep_aspect_ratio': True,
            'ensure_multiple_of': 14,
        },
    ),
}
SIZES = [(480, 640), (640, 480), (333, 500)]


class Identity(torch.nn.Module):
    def __init__(self, config):
        super().__init__()
        self.config = config

    def forward(self, pixel_values):
        return SimpleNamespace(predicted_depth=pixel_values.mean(dim=1))


def box_image(image_hw):
    """A bright box on black, and its mask; an eighth of each side is border."""
    height, width = image_hw
    mask = np.zeros(image_hw, bool)
    mask[height // 8 : height - height // 8, width // 8 : width - width // 8] = True
    return NamedImage('x.png', np.uint8(255) * mask[..., None].repeat(3, axis=2)), mask


def shown(depth, image_hw):
    """Threshold a map stretched over the image."""
    stretched = Image.fromarray(depth).resize(image_hw[::-1], Image.Resampling.BILINEAR)
    values = np.asarray(stretched)
    return values > (values.min() + values.max()) / 2


def identity_extractor(family, folder, **options):
    make, prepared = PUBLISHED[family]
    network, processor = make()
    network.save_pretrained(folder, safe_serialization=True)
    type(processor)(**prepared).save_pretrained(folder)
    extractor = HFDepth(str(folder), **options)
    extractor.network = Identity(extractor.network.config)
    return extractor


@pytest.mark.parametrize('average_flipped', [False, True])
@pytest.mark.parametrize('family', PUBLISHED)
def test_depth_lies_on_the_image(tmp_path, family, average_flipped):
    extractor = identity_extractor(family, tmp_path, average_flipped=average_flipped)
    for image_hw in SIZES:
        image, mask = box_image(image_hw)
        (depth,) = extractor([image])
        assert iou(shown(depth, image_hw), mask) >= 0.99, image_hw


@pytest.mark.slow
def test_marigold_lies_on_the_image(tmp_path):
    marigold(tmp_path).save_pretrained(tmp_path / 'model', safe_serialization=True)
    extractor = MarigoldDepth(
        str(tmp_path / 'model'), num_inference_steps=1, processing_resolution=256
    )
    pipeline, seen = extractor.pipeline, {}
    prepare = pipeline.prepare_latents

    def keep_image(image, *others):
        seen['image'] = image
        return prepare(image, *others)

    pipeline.prepare_latents = keep_image
    pipeline.decode_prediction = lambda latent: seen['image'].mean(1, keepdim=True) / 2 + 0.5
    for image_hw in SIZES:
        image, mask = box_image(image_hw)
        (depth,) = extractor([image])
        assert iou(shown(depth, image_hw), mask) >= 0.99, image_hw


def test_flipped_maps_are_averaged(tmp_path):
    """A network that sees the left side nearer sees both sides alike after averaging."""
    plain = identity_extractor('DPT', tmp_path)
    averaged = identity_extractor('DPT', tmp_path, average_flipped=True)
    for extractor in (plain, averaged):
        extractor.network.forward = lambda pixel_values: SimpleNamespace(
            predicted_depth=torch.arange(8.0).expand(len(pixel_values), 6, 8)
        )
    image, _ = box_image((60, 80))
    assert (plain([image])[0] == np.arange(8)).all()
    assert (averaged([image])[0] == 3.5).all()


def test_padding_that_is_not_known_is_refused(tmp_path):
    network, _ = dpt()
    network.save_pretrained(tmp_path, safe_serialization=True)
    transformers.DPTImageProcessor(do_pad=True, size_divisor=64).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match='do_pad must be False'):
        HFDepth(str(tmp_path))
