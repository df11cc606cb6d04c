from __future__ import annotations

import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import transformers
from helpers.tiny_networks import depth_anything, dpt, marigold, zoe

from cuts3d_mm.images.reading import ImageFailure, NamedImage
from cuts3d_mm.labellers.depth.huggingface import (
    HFDepth,
    MarigoldDepth,
    as_processor_input,
    to_depth,
)
from cuts3d_mm.testing import check_depth_source


@pytest.fixture(params=[zoe, dpt, depth_anything], ids=lambda make: make.__name__)
def folder(request, tmp_path):
    network, processor = request.param()
    network.save_pretrained(tmp_path, safe_serialization=True)
    processor.save_pretrained(tmp_path)
    return tmp_path


def test_depth_is_a_finite_map_for_any_image(folder, rng):
    shapes = [(40, 70), (1, 1), (3, 900), (40, 70)]
    images = [NamedImage('x', rng.integers(0, 256, (*hw, 3), dtype=np.uint8)) for hw in shapes]
    check_depth_source(HFDepth(str(folder)), images=images)


def test_a_gpu_computes_in_full_float32(folder, rng):
    extractor, allowed = HFDepth(str(folder)), []
    extractor.network.register_forward_pre_hook(
        lambda *_: allowed.append(torch.backends.cudnn.allow_tf32)
    )
    extractor([NamedImage('a', rng.integers(0, 256, (60, 88, 3), np.uint8))])
    assert allowed == [False] and torch.backends.cudnn.allow_tf32


def test_weights_are_read_from_safetensors_only(folder):
    (folder / 'model.safetensors').rename(folder / 'pytorch_model.bin')
    with pytest.raises(OSError, match='safetensors'):
        HFDepth(str(folder))


@pytest.fixture
def fetched(monkeypatch):
    """Kernels that transformers would fetch from the Hub and run."""
    names = []
    monkeypatch.setattr('transformers.modeling_utils.load_and_register_kernel', names.append)
    return names


def change(path, **changes):
    config = json.loads(path.read_text())
    for part in (config, config.get('backbone_config') or {}):
        part |= changes
    path.write_text(json.dumps(config))


KERNEL = {'_attn_implementation_internal': 'x/y', '_attn_implementation': 'x/y'}


def test_no_kernel_that_a_repository_names_is_fetched(folder, rng, fetched):
    image = NamedImage('x.jpg', rng.integers(0, 256, (40, 70, 3), dtype=np.uint8))
    (before,) = HFDepth(str(folder))([image])
    change(folder / 'config.json', **KERNEL, attn_implementation='x/y')
    (depth,) = HFDepth(str(folder))([image])
    assert not fetched and (depth == before).all()


@pytest.mark.parametrize('kind', ['vit', 'timm_backbone'])
def test_models_and_backbones_of_other_types_are_refused(tmp_path, kind):
    network, processor = depth_anything()
    network.save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)
    path = tmp_path / 'config.json'
    config = json.loads(path.read_text())
    if kind == 'vit':
        config['model_type'] = kind
    else:
        config['backbone_config'] = {'model_type': 'timm_backbone', 'backbone': 'hf_hub:x/y'}
    path.write_text(json.dumps(config))
    with pytest.raises(ValueError, match='must be one of'):
        HFDepth(str(tmp_path))


def test_depth_that_is_not_finite_is_a_failure():
    with pytest.raises(ImageFailure, match='NaN or inf'):
        to_depth(np.array([[np.nan]], np.float32), 'depth')


def test_unknown_prediction_is_refused():
    with pytest.raises(ValueError, match="predicts must be 'depth' or 'disparity'"):
        HFDepth('nowhere', predicts='distance')


@pytest.mark.slow
def test_marigold_runs_with_a_tiny_pipeline(tmp_path, rng, fetched):
    pipeline = marigold(tmp_path)
    pipeline.save_pretrained(tmp_path / 'model', safe_serialization=True)
    change(tmp_path / 'model/text_encoder/config.json', **KERNEL)
    extractor = MarigoldDepth(
        str(tmp_path / 'model'), num_inference_steps=1, processing_resolution=32
    )
    image = NamedImage('x.jpg', rng.integers(0, 256, (40, 64, 3), dtype=np.uint8))
    first, second = extractor([image, image])
    assert first.shape == (40, 64) and (first == second).all()
    check_depth_source(extractor)
    assert 0 <= first.min() and first.max() <= 1


def test_images_of_one_size_go_through_the_network_together(folder, rng):
    shapes = [(40, 70), (33, 50), (40, 70)]
    images = [NamedImage('x', rng.integers(0, 256, (*hw, 3), dtype=np.uint8)) for hw in shapes]
    extractor, sizes = HFDepth(str(folder)), []
    extractor.network.register_forward_pre_hook(
        lambda module, inputs, options: sizes.append(len(options['pixel_values'])),
        with_kwargs=True,
    )
    extractor(images)
    assert sum(sizes) == 3 and max(sizes) >= 2


ODD_SHAPES = [(480, 640), (427, 640), (375, 500), (5, 7), (4, 9), (1, 1), (333, 81), (61, 900)]


@pytest.mark.parametrize('size', [(384, 512), (32, 48)])
def test_zoedepth_gets_what_its_processor_makes_to_the_last_bit(tmp_path, rng, size):
    network, _ = zoe()
    network.save_pretrained(tmp_path)
    size = {'height': size[0], 'width': size[1]}
    transformers.ZoeDepthImageProcessor(size=size).save_pretrained(tmp_path)
    extractor, seen = HFDepth(str(tmp_path)), []
    extractor.network.register_forward_pre_hook(
        lambda module, inputs, options: seen.append(options['pixel_values']), with_kwargs=True
    )
    for hw in ODD_SHAPES:
        pixels = rng.integers(0, 256, (2, *hw, 3), dtype=np.uint8)
        extractor.network.forward = lambda pixel_values: SimpleNamespace(
            predicted_depth=pixel_values[:, 0]
        )
        extractor([NamedImage('x', one) for one in pixels])
        wanted = [
            extractor.processor(
                images=as_processor_input(one),
                input_data_format='channels_last',
                return_tensors='pt',
            )['pixel_values']
            for one in pixels
        ]
        assert torch.equal(seen.pop(), torch.cat(wanted)), hw


@pytest.mark.parametrize('predicts', ['depth', 'disparity'])
def test_depth_that_is_not_waited_for_is_that_of_a_call(folder, rng, predicts):
    extractor = HFDepth(str(folder), predicts=predicts)
    images = [NamedImage('x', rng.integers(0, 256, (40, w, 3), dtype=np.uint8)) for w in (70, 50)]
    for found, wanted in zip(extractor.launch(images), extractor(images), strict=True):
        np.testing.assert_allclose(found.numpy(), wanted, rtol=1e-5)


def test_bfloat16_depth_is_close_to_that_of_float32(folder, rng):
    image = NamedImage('x', rng.integers(0, 256, (40, 70, 3), dtype=np.uint8))
    (exact,), (half,) = HFDepth(str(folder))([image]), HFDepth(str(folder), half=True)([image])
    assert half.dtype == np.float32 and half.shape == exact.shape
    assert np.abs(half - exact).mean() < 0.05 * np.abs(exact).mean()
