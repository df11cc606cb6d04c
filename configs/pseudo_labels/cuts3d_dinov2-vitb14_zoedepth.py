"""CutS3D with DINOv2 ViT-B/14 keys: 476 px give a grid of 34 x 34 patches."""

_base_ = 'cuts3d_dinov2-vits14_zoedepth.py'

model = dict(
    features=dict(
        backbone=dict(arch='base'),
        checkpoint='hf://timm/vit_base_patch14_dinov2.lvd142m/model.safetensors',
    ),
)
