"""Tiny, randomly initialised models of the real classes; nothing is downloaded."""

from __future__ import annotations

import numpy as np
import pytest

from cuts3d_mm.generation.extractors.depth_hf import HFDepth, MarigoldDepth, to_depth
from cuts3d_mm.labelling.images import ImageFailure, NamedImage

transformers = pytest.importorskip('transformers')

BEIT = {
    'hidden_size': 24,
    'num_hidden_layers': 4,
    'num_attention_heads': 2,
    'intermediate_size': 32,
    'image_size': 32,
    'patch_size': 8,
    'out_features': ['stage1', 'stage2', 'stage3', 'stage4'],
    'reshape_hidden_states': False,
}


def zoe():
    config = transformers.ZoeDepthConfig(
        backbone_config=transformers.BeitConfig(**BEIT, use_relative_position_bias=True),
        neck_hidden_sizes=[16, 16, 16, 16],
        fusion_hidden_size=16,
        bottleneck_features=16,
        num_relative_features=8,
        bin_embedding_dim=8,
        num_attractors=[4, 2, 1, 1],
        bin_configurations=[{'n_bins': 8, 'min_depth': 0.001, 'max_depth': 10.0, 'name': 'nyu'}],
    )
    processor = transformers.ZoeDepthImageProcessor(size={'height': 32, 'width': 48})
    return transformers.ZoeDepthForDepthEstimation(config), processor


def dpt():
    config = transformers.DPTConfig(
        hidden_size=24,
        num_hidden_layers=4,
        num_attention_heads=2,
        intermediate_size=32,
        image_size=32,
        patch_size=8,
        backbone_out_indices=[0, 1, 2, 3],
        neck_hidden_sizes=[8, 8, 8, 8],
        fusion_hidden_size=8,
    )
    processor = transformers.DPTImageProcessor(size={'height': 32, 'width': 32})
    return transformers.DPTForDepthEstimation(config), processor


def depth_anything():
    backbone = transformers.Dinov2Config(
        hidden_size=24,
        num_hidden_layers=4,
        num_attention_heads=2,
        image_size=28,
        patch_size=14,
        out_features=['stage1', 'stage2', 'stage3', 'stage4'],
        reshape_hidden_states=False,
    )
    config = transformers.DepthAnythingConfig(
        backbone_config=backbone,
        reassemble_hidden_size=24,
        neck_hidden_sizes=[8, 8, 8, 8],
        fusion_hidden_size=8,
        head_hidden_size=8,
    )
    processor = transformers.DPTImageProcessor(
        size={'height': 28, 'width': 28}, keep_aspect_ratio=True, ensure_multiple_of=14
    )
    return transformers.DepthAnythingForDepthEstimation(config), processor


@pytest.fixture(params=[zoe, dpt, depth_anything], ids=lambda make: make.__name__)
def folder(request, tmp_path):
    network, processor = request.param()
    network.save_pretrained(tmp_path, safe_serialization=True)
    processor.save_pretrained(tmp_path)
    return tmp_path


@pytest.mark.parametrize('image_hw', [(40, 70), (1, 1), (3, 900)])
def test_depth_is_a_finite_map_for_any_image(folder, rng, image_hw):
    image = NamedImage('x.jpg', rng.integers(0, 256, (*image_hw, 3), dtype=np.uint8))
    depth, again = HFDepth(str(folder))([image, image])
    assert depth.ndim == 2 and depth.dtype == np.float32 and np.isfinite(depth).all()
    assert (depth == again).all()


def test_weights_are_read_from_safetensors_only(folder):
    (folder / 'model.safetensors').rename(folder / 'pytorch_model.bin')
    with pytest.raises(OSError, match='safetensors'):
        HFDepth(str(folder))


def test_disparity_is_inverted_explicitly():
    near_to_far = to_depth(np.array([[10.0, 5, 0]], np.float32), 'disparity')[0]
    assert (np.diff(near_to_far) > 0).all() and near_to_far[2] / near_to_far[0] == pytest.approx(
        11
    )


def test_constant_disparity_is_constant_depth():
    assert (to_depth(np.full((2, 3), 4, np.float32), 'disparity') == 0).all()


def test_depth_that_is_not_finite_is_a_failure():
    with pytest.raises(ImageFailure, match='NaN or inf'):
        to_depth(np.array([[np.nan]], np.float32), 'depth')


def test_unknown_prediction_is_refused():
    with pytest.raises(ValueError, match="predicts must be 'depth' or 'disparity'"):
        HFDepth('nowhere', predicts='distance')


@pytest.mark.slow
def test_marigold_runs_with_a_tiny_pipeline(tmp_path, rng):
    diffusers = pytest.importorskip('diffusers', exc_type=ImportError)
    text = transformers.CLIPTextConfig(
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        vocab_size=49408,
        projection_dim=16,
    )
    vocabulary = {'<|startoftext|>': 0, '<|endoftext|>': 1, 'a</w>': 2}
    (tmp_path / 'vocab.json').write_text(str(vocabulary).replace("'", '"'))
    (tmp_path / 'merges.txt').write_text('#version: 0.2\n')
    blocks = {'block_out_channels': (8, 16), 'layers_per_block': 1, 'norm_num_groups': 4}
    pipeline = diffusers.MarigoldDepthPipeline(
        unet=diffusers.UNet2DConditionModel(
            sample_size=8,
            in_channels=8,
            out_channels=4,
            cross_attention_dim=16,
            down_block_types=('DownBlock2D', 'CrossAttnDownBlock2D'),
            up_block_types=('CrossAttnUpBlock2D', 'UpBlock2D'),
            attention_head_dim=2,
            **blocks,
        ),
        vae=diffusers.AutoencoderKL(
            down_block_types=['DownEncoderBlock2D'] * 2,
            up_block_types=['UpDecoderBlock2D'] * 2,
            latent_channels=4,
            **blocks,
        ),
        scheduler=diffusers.DDIMScheduler(prediction_type='v_prediction'),
        text_encoder=transformers.CLIPTextModel(text),
        tokenizer=transformers.CLIPTokenizer(
            str(tmp_path / 'vocab.json'), str(tmp_path / 'merges.txt'), model_max_length=8
        ),
        prediction_type='depth',
        scale_invariant=True,
        shift_invariant=True,
        default_denoising_steps=1,
        default_processing_resolution=32,
    )
    pipeline.save_pretrained(tmp_path / 'model', safe_serialization=True)
    extractor = MarigoldDepth(
        str(tmp_path / 'model'), num_inference_steps=1, processing_resolution=32
    )
    image = NamedImage('x.jpg', rng.integers(0, 256, (40, 64, 3), dtype=np.uint8))
    first, second = extractor([image, image])
    assert first.shape == (40, 64) and (first == second).all()
    assert 0 <= first.min() and first.max() <= 1
