"""The recipe of the paper's later version with its best encoder (Table 4, three rounds)."""

_base_ = 'cuts3d_diffncuts-vits8_zoedepth.py'

model = dict(recipe=dict(preset='paper_v3'))
