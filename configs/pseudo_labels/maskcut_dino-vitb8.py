"""MaskCut as CutLER ran it: DINO ViT-B/8 keys, 480 px, tau 0.15, N = 3."""

_base_ = 'cuts3d_dino-vitb8_zoedepth.py'

model = dict(depth=None, recipe=dict(_delete_=True, preset='maskcut'))
