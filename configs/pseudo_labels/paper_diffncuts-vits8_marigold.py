"""The paper's recipe with its best encoder and Marigold, learnt from synthetic depth (Table 8)."""

_base_ = 'cuts3d_diffncuts-vits8_marigold.py'

model = dict(recipe=dict(preset='paper'))
