"""The paper's recipe without Spatial Importance, DINO (Table 4, + LocalCut)."""

_base_ = 'paper_dino-vitb8_zoedepth.py'

model = dict(recipe=dict(importance=None))
