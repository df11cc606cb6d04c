"""CutS3D with DINO ViT-B/8 keys and Depth Anything V2 (small, Apache-2.0), a disparity model."""

_base_ = 'cuts3d_dino-vitb8_zoedepth.py'

model = dict(
    depth=dict(model='depth-anything/Depth-Anything-V2-Small-hf', predicts='disparity'),
)
