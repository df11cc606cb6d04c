"""The paper's recipe without Spatial Importance, DiffNCuts (Table 4, + LocalCut)."""

_base_ = 'paper_diffncuts-vits8_zoedepth.py'

model = dict(recipe=dict(importance=None))
