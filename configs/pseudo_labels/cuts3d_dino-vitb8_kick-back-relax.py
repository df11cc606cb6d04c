"""CutS3D with DINO ViT-B/8 keys and depth by Kick Back & Relax, self-supervised.

There is no package of that model. Run its authors' repository over the images, save each
prediction as `DEPTH/<path of the image>.npy` and give the folder. It predicts disparity.

    cuts3d generate cuts3d_dino-vitb8_kick-back-relax.py IMAGES OUT --depth DEPTH
"""

_base_ = 'cuts3d_dino-vitb8_zoedepth.py'

model = dict(
    depth=dict(_delete_=True, type='cuts3d_mm.DepthFromFile', root='depth', larger_is='near'),
)
