"""The recipe of the paper's later version with MiDaS-Small (its Table 8)."""

_base_ = 'cuts3d_diffncuts-vits8_midas-small.py'

model = dict(recipe=dict(preset='paper_v3'))
