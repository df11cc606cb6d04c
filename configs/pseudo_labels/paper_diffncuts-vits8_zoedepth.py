"""The paper's recipe with its best encoder: DiffNCuts ViT-S/8 keys, ZoeDepth."""

_base_ = 'cuts3d_diffncuts-vits8_zoedepth.py'

model = dict(recipe=dict(preset='paper'))
