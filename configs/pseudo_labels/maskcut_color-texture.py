"""MaskCut, the 2D baseline, on the hand-made features."""

_base_ = 'cuts3d_color-texture_file-depth.py'

model = dict(depth=None, recipe=dict(_delete_=True, preset='maskcut'))
