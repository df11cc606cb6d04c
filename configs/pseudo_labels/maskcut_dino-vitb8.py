"""MaskCut as CutLER ran it: DINO ViT-B/8 keys, 480 px, tau 0.15, N = 3.

Only the sign of the eigenvector differs: MaskCut leaves it to LAPACK, and it decides a third of
its cuts. To compare with it, add `--cfg-options model.recipe.ncut.sign=lapack`, which takes
minutes per image.
"""

_base_ = 'cuts3d_dino-vitb8_zoedepth.py'

model = dict(depth=None, recipe=dict(_delete_=True, preset='maskcut'))
