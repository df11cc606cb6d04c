"""CutS3D with DINO ViT-B/8 keys and Marigold, depth learnt from synthetic data."""

_base_ = 'cuts3d_dino-vitb8_zoedepth.py'

model = dict(
    depth=dict(_delete_=True, type='cuts3d_mm.MarigoldDepth', model='prs-eth/marigold-depth-v1-1'),
)
