"""CutS3D with DINOv3 ViT-B/16 keys and ZoeDepth, experimental; under the DINOv3 License.

Experimental: TokenCut, an NCut on the same kind of features, has a CorLoc of 68.8 % on VOC07 with
DINO, and of 26.0 % with DINOv3 (published figures); not measured here.

The notes in the config of ViT-S/16 about timm, image size and licence apply here too.
"""

_base_ = 'cuts3d_dinov3-vits16_zoedepth.py'

model = dict(features=dict(model='vit_base_patch16_dinov3.lvd1689m'))
