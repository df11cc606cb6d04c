"""CutS3D with the paper's best encoder and Marigold, learnt from synthetic depth (Table 8)."""

_base_ = 'cuts3d_diffncuts-vits8_zoedepth.py'

model = dict(
    depth=dict(_delete_=True, type='cuts3d_mm.MarigoldDepth', model='prs-eth/marigold-depth-v1-1'),
)
