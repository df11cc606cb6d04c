"""CutS3D without any download: hand-made features, depth maps from files.

    cuts3d generate cuts3d_color-texture_file-depth.py IMAGES OUT --depth DEPTH_MAPS

The features are not DINO's and the depth is whatever the files hold, so the smallest useful
instance and the LocalCut threshold have values of their own (README.md in this folder).
"""

model = dict(
    type='cuts3d_mm.PseudoLabelGenerator',
    features=dict(type='cuts3d_mm.ColorTextureFeatures'),
    depth=dict(type='cuts3d_mm.DepthFromFile', root='depth', larger_is='far'),
    recipe=dict(preset='cuts3d', min_area_ratio=0.02, local_cut=dict(tau_knn=0.15)),
)
