"""CutS3D with DINOv2 ViT-B/14 keys, experimental: 476 px give a grid of 34 x 34 patches.

Experimental: TokenCut, an NCut on the same kind of features, has a CorLoc of 68.8 % on VOC07 with
DINO, and of 16.2 % with DINOv2 (published figures); not measured here.
"""

_base_ = 'cuts3d_dinov2-vits14_zoedepth.py'

model = dict(
    features=dict(
        backbone=dict(arch='base'),
        checkpoint='hf://timm/vit_base_patch14_dinov2.lvd142m/model.safetensors',
    ),
)
