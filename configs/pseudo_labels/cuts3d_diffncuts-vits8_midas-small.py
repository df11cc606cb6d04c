"""CutS3D with DiffNCuts ViT-S/8 keys and depth by MiDaS-Small.

`cuts3d_dino-vitb8_midas-small.py` explains how to write the depth maps.

    cuts3d generate cuts3d_diffncuts-vits8_midas-small.py IMAGES OUT --depth DEPTH
"""

_base_ = 'cuts3d_diffncuts-vits8_kick-back-relax.py'

model = dict(depth=dict(zero_is_invalid=False))
