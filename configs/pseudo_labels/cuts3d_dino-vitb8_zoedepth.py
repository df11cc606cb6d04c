"""CutS3D as measurement recommends it: DINO ViT-B/8 keys, ZoeDepth.

The paper's own parameters are in `paper_dino-vitb8_zoedepth.py`.

    cuts3d generate cuts3d_dino-vitb8_zoedepth.py IMAGES OUT
"""

model = dict(
    type='cuts3d_mm.PseudoLabelGenerator',
    features=dict(
        type='cuts3d_mm.ViTKeyFeatures',
        backbone=dict(arch='base', patch_size=8, img_size=224),
        checkpoint='hf://timm/vit_base_patch8_224.dino/model.safetensors',
    ),
    depth=dict(type='cuts3d_mm.HFDepth', model='Intel/zoedepth-nyu-kitti', predicts='depth'),
    recipe=dict(preset='cuts3d'),
    input_hw=(480, 480),
)
