"""MaskCut with DiffNCuts ViT-S/8 keys, the second baseline of Table 4."""

_base_ = 'cuts3d_diffncuts-vits8_zoedepth.py'

model = dict(depth=None, recipe=dict(_delete_=True, preset='maskcut'))
