"""CutS3D as measurement recommends it: DiffNCuts ViT-S/8 keys, ZoeDepth.

The paper's own parameters are in `paper_diffncuts-vits8_zoedepth.py`.

The authors of DiffNCuts publish the weights on a file server that needs a browser: download
the ViT-S/8 checkpoint and give its path.

    cuts3d generate cuts3d_diffncuts-vits8_zoedepth.py IMAGES OUT \
        --cfg-options model.features.checkpoint=diffncuts_vits8.pth
"""

_base_ = 'cuts3d_dino-vits8_zoedepth.py'

model = dict(features=dict(checkpoint='checkpoints/diffncuts_vits8.pth'))
