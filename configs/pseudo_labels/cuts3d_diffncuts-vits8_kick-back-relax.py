"""CutS3D with DiffNCuts ViT-S/8 keys and depth by Kick Back & Relax.

`cuts3d_dino-vitb8_kick-back-relax.py` explains how to write the depth maps.

    cuts3d generate cuts3d_diffncuts-vits8_kick-back-relax.py IMAGES OUT --depth DEPTH
"""

_base_ = 'cuts3d_diffncuts-vits8_zoedepth.py'

model = dict(
    depth=dict(_delete_=True, type='cuts3d_mm.DepthFromFile', root='depth', larger_is='near'),
)
