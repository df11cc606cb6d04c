"""CutS3D with DINO ViT-B/8 keys and MiDaS (DPT), a disparity model."""

_base_ = 'cuts3d_dino-vitb8_zoedepth.py'

model = dict(depth=dict(model='Intel/dpt-hybrid-midas', predicts='disparity'))
