"""The paper's recipe with a tau_knn of 0.15 (Table 5a)."""

_base_ = 'paper_diffncuts-vits8_zoedepth.py'

model = dict(recipe=dict(local_cut=dict(tau_knn=0.15)))
