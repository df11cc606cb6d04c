"""CutS3D with DINO ViT-S/8 keys and ZoeDepth: three times as fast as ViT-B/8."""

_base_ = 'cuts3d_dino-vitb8_zoedepth.py'

model = dict(
    features=dict(
        backbone=dict(arch='deit-small'),
        checkpoint='hf://timm/vit_small_patch8_224.dino/model.safetensors',
    ),
)
