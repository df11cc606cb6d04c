"""A tiny network with timm's rotary embedding of DINOv3, under a name of its own in timm."""

from __future__ import annotations

from timm.models import register_model
from timm.models.eva import Eva


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
