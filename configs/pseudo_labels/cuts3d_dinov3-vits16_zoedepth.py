"""CutS3D with DINOv3 ViT-S/16 keys and ZoeDepth, experimental; needs timm, `cuts3d_mm[timm]`.

Experimental: TokenCut, an NCut on the same kind of features, has a CorLoc of 68.8 % on VOC07 with
DINO, and of 26.0 % with DINOv3 (published figures); not measured here.

960 px give the grid of the paper's configs, 60 x 60 patches; refinement runs at 960 px too, which
takes four times as long. The keys are those before the rotary embedding. The weights are under
the DINOv3 License of Meta, which limits some uses and asks that it goes along with the weights
and with what is made from them: https://ai.meta.com/resources/models-and-libraries/dinov3-license/
"""

_base_ = 'cuts3d_dino-vitb8_zoedepth.py'

model = dict(
    features=dict(
        _delete_=True,
        type='cuts3d_mm.TimmFeatures',
        model='vit_small_patch16_dinov3.lvd1689m',
        block=-1,
        checkpoint='timm',
    ),
    input_hw=(960, 960),
)
