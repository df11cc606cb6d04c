"""CutS3D with DiffNCuts ViT-S/8 keys and Marigold, learnt from synthetic depth."""

_base_ = 'cuts3d_diffncuts-vits8_zoedepth.py'

model = dict(
    depth=dict(_delete_=True, type='cuts3d_mm.MarigoldDepth', model='prs-eth/marigold-depth-v1-1'),
)
