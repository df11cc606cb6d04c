"""The paper's recipe with its first encoder: DINO ViT-B/8 keys, ZoeDepth."""

_base_ = 'cuts3d_dino-vitb8_zoedepth.py'

model = dict(recipe=dict(preset='paper'))
