"""Tiny, randomly initialised networks of the real classes; nothing is downloaded."""

from __future__ import annotations

import pytest
from timm.models import register_model
from timm.models.eva import Eva

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


def dpt_hybrid():
    """The kind of `Intel/dpt-hybrid-midas`: a convolutional stem before the transformer."""
    config = transformers.DPTConfig(
        hidden_size=24,
        num_hidden_layers=4,
        num_attention_heads=2,
        intermediate_size=32,
        image_size=32,
        patch_size=16,
        is_hybrid=True,
        backbone_config=transformers.BitConfig(
            embedding_size=8,
            hidden_sizes=[8, 8, 8],
            depths=[1, 1, 1],
            layer_type='bottleneck',
            global_padding='same',
            num_groups=4,
            out_features=['stage1', 'stage2', 'stage3'],
        ),
        backbone_featmap_shape=[1, 8, 2, 2],
        neck_ignore_stages=[0, 1],
        backbone_out_indices=[0, 1, 2, 3],
        neck_hidden_sizes=[8, 8, 8, 8],
        fusion_hidden_size=8,
    )
    processor = transformers.DPTImageProcessor(size={'height': 32, 'width': 32})
    return transformers.DPTForDepthEstimation(config), processor


def dpt_beit():
    """The kind of `Intel/dpt-beit-large-512`, MiDaS 3.1."""
    config = transformers.DPTConfig(
        backbone_config=transformers.BeitConfig(**BEIT, use_relative_position_bias=True),
        neck_hidden_sizes=[8, 8, 8, 8],
        fusion_hidden_size=8,
    )
    processor = transformers.DPTImageProcessor(
        size={'height': 32, 'width': 32}, keep_aspect_ratio=True, ensure_multiple_of=32
    )
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


def marigold(folder):
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
    (folder / 'vocab.json').write_text(str(vocabulary).replace("'", '"'))
    (folder / 'merges.txt').write_text('#version: 0.2\n')
    blocks = {'block_out_channels': (8, 16), 'layers_per_block': 1, 'norm_num_groups': 4}
    return diffusers.MarigoldDepthPipeline(
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
            str(folder / 'vocab.json'), str(folder / 'merges.txt'), model_max_length=8
        ),
        prediction_type='depth',
        scale_invariant=True,
        shift_invariant=True,
        default_denoising_steps=1,
        default_processing_resolution=32,
    )


@register_model
def tiny_rotary_vit(pretrained=False, dynamic_img_size=True, **unused):
    assert not pretrained
    network = Eva(
        **{'img_size': 64, 'patch_size': 16, 'embed_dim': 48, 'depth': 3, 'num_heads': 3},
        **{'use_abs_pos_emb': False, 'use_rot_pos_emb': True, 'rope_type': 'dinov3'},
        **{'rope_temperature': 100, 'rope_rotate_half': True, 'num_reg_tokens': 4},
        **{'qkv_bias': False, 'init_values': 1.0, 'dynamic_img_size': dynamic_img_size},
    )
    network.pretrained_cfg = {'mean': (0.5, 0.5, 0.5), 'std': (0.5, 0.5, 0.5)}
    return network
