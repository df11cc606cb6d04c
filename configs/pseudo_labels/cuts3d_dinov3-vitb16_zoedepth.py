"""CutS3D with DINOv3 ViT-B/16 keys and ZoeDepth; the weights are under the DINOv3 License.

The notes in the config of ViT-S/16 about timm, image size and licence apply here too.
"""

_base_ = 'cuts3d_dinov3-vits16_zoedepth.py'

model = dict(features=dict(model='vit_base_patch16_dinov3.lvd1689m'))
