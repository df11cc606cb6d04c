"""The paper's recipe with its best encoder and depth by Kick Back & Relax (Table 8)."""

_base_ = 'cuts3d_diffncuts-vits8_kick-back-relax.py'

model = dict(recipe=dict(preset='paper'))
